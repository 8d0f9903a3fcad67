"""The manifests of a finished run, together, and the questions that every part asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]
Model = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Results:
    """What the stages wrote: the parsed manifests of results/.

    Attributes:
        diagnostics: findings by the diagnostic's name; empty where none was asked for.
    """

    base: Manifest
    sweep: Manifest
    soups: Manifest
    tune: Manifest
    evaluation: Manifest
    diagnostics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def merged(self) -> list[Model]:
        """All merged models: soups by recipe, then tuned ones."""
        return [*self.soups["soups"], *self.tune["tuned"]]

    @property
    def best_soup(self) -> Model | None:
        """The merged model that `best_soup` names, as its stage wrote it; None without soups."""
        best = best_soup(self.evaluation)
        names = {model["name"]: model for model in self.merged}
        return None if best is None else names[best["name"]]


def models_of(evaluation: Manifest, *kinds: str) -> list[Model]:
    """Return the evaluated models of these kinds, in the order of the manifest."""
    return [model for model in evaluation["models"] if model["kind"] in kinds]


def best_ingredient(evaluation: Manifest) -> Model:
    """Return the evaluated model that was the best ingredient on val."""
    name = evaluation["best_ingredient"]
    return next(model for model in models_of(evaluation, "ingredient") if model["name"] == name)


def best_soup(evaluation: Manifest) -> Model | None:
    """Return the evaluated soup or tuned soup that was the best on val; None without soups."""
    name, soups = evaluation["best_soup"], models_of(evaluation, "soup", "tuned")
    return next((soup for soup in soups if soup["name"] == name), None)


def main_models(evaluation: Manifest) -> list[Model]:
    """Return what every comparison shows: base, best ingredient, soups, ensembles and repeats."""
    return [
        *models_of(evaluation, "base"),
        best_ingredient(evaluation),
        *models_of(evaluation, "soup", "tuned", "ensemble", "repeats"),
    ]


def objective_values(study: Model, values: list[float]) -> dict[str, float]:
    """Name the values of a trial by the objectives of its study (val, val_shift)."""
    return dict(zip(study["recipe"]["objectives"], values, strict=True))
