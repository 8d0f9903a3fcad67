"""The manifests of a finished run, together, and the questions that every part asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
Model = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Results:
    """What the stages wrote: the parsed manifests of results/."""

    base: Manifest
    sweep: Manifest
    soups: Manifest
    tune: Manifest
    evaluation: Manifest

    @property
    def merged(self) -> list[Model]:
        """All merged models: soups by recipe, then tuned ones."""
        return [*self.soups["soups"], *self.tune["tuned"]]


def models_of(evaluation: Manifest, *kinds: str) -> list[Model]:
    """Return the evaluated models of these kinds, in the order of the manifest."""
    return [model for model in evaluation["models"] if model["kind"] in kinds]


def best_ingredient(evaluation: Manifest) -> Model:
    """Return the evaluated model that was the best ingredient on val."""
    name = evaluation["best_ingredient"]
    return next(model for model in models_of(evaluation, "ingredient") if model["name"] == name)


def main_models(evaluation: Manifest) -> list[Model]:
    """Return what every comparison shows: base, best ingredient, soups, tuned soups, ensemble."""
    return [
        *models_of(evaluation, "base"),
        best_ingredient(evaluation),
        *models_of(evaluation, "soup", "tuned", "ensemble"),
    ]


def objective_values(study: Model, values: list[float]) -> dict[str, float]:
    """Name the values of a trial by the objectives of its study (val, val_shift)."""
    return dict(zip(study["recipe"]["objectives"], values, strict=True))
