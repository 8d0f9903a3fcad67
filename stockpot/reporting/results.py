"""The manifests of a finished run, and common queries on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpot.errors import InputError

Manifest = dict[str, Any]
ModelEntry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Results:
    """The parsed manifests in results/, one per stage.

    Attributes:
        diagnostics: findings by the name of the diagnostic, in the order of the report.
    """

    base: Manifest
    sweep: Manifest
    soups: Manifest
    tune: Manifest
    evaluation: Manifest
    diagnostics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def merged(self) -> list[ModelEntry]:
        """All merged models: soups by recipe, then tuned ones."""
        return [*self.soups["soups"], *self.tune["tuned"]]

    @property
    def best_soup(self) -> ModelEntry | None:
        """The best soup on val, as its stage wrote it; None without soups."""
        best = best_soup(self.evaluation)
        names = {model["name"]: model for model in self.merged}
        return None if best is None else names[best["name"]]


def models_of(evaluation: Manifest, *kinds: str) -> list[ModelEntry]:
    """Return the evaluated models of these kinds, in the order of the manifest."""
    return [model for model in evaluation["models"] if model["kind"] in kinds]


def best_ingredient(evaluation: Manifest) -> ModelEntry:
    """Return the evaluated model that was the best ingredient on val."""
    name = evaluation["best_ingredient"]
    return next(model for model in models_of(evaluation, "ingredient") if model["name"] == name)


def best_soup(evaluation: Manifest) -> ModelEntry | None:
    """Return the evaluated soup or tuned soup that was the best on val; None without soups.

    Raises:
        InputError: the manifest is from a version that did not record it.
    """
    if "best_soup" not in evaluation:
        raise InputError(
            "results/evaluation.json: must name the best soup, got a manifest of an older version; "
            "run `stockpot run` there again"
        )
    name, soups = evaluation["best_soup"], models_of(evaluation, "soup", "tuned")
    return next((soup for soup in soups if soup["name"] == name), None)


def main_models(evaluation: Manifest) -> list[ModelEntry]:
    """Return the models of all comparisons: base, best ingredient, soups, ensembles, repeats."""
    return [
        *models_of(evaluation, "base"),
        best_ingredient(evaluation),
        *models_of(evaluation, "soup", "tuned", "ensemble", "repeats"),
    ]


def objective_values(study: ModelEntry, values: list[float]) -> dict[str, float]:
    """Return the values of a trial by the objectives of its study (val, val_shift)."""
    return dict(zip(study["recipe"]["objectives"], values, strict=True))
