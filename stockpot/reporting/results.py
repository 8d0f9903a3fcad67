"""The manifests of a finished run, and common queries on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpot.errors import InputError
from stockpot.metric_units import Unit, unit_of_scores

Manifest = dict[str, Any]
ModelEntry = dict[str, Any]

# Prefixes of metrics that are no fractions, for those that a manifest does not list: derived
# metrics, and all metrics in manifests of older versions.
_UNBOUNDED = ("nll", "brier", "temperature", "loss", "perplexity", "rmse", "mae", "r2")


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
    def unit(self) -> Unit:
        """The unit of the metric by which models are compared."""
        return unit_of(self.evaluation)

    @property
    def precheck(self) -> Manifest:
        """The result of the check before merging; empty without one."""
        return dict(self.sweep.get("precheck", {}))

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


def evaluated(evaluation: Manifest, name: str) -> ModelEntry:
    """Return the evaluated model called `name`."""
    return next(model for model in evaluation["models"] if model["name"] == name)


def best_ingredient(evaluation: Manifest) -> ModelEntry:
    """Return the evaluated model that was the best ingredient on val."""
    return evaluated(evaluation, evaluation["best_ingredient"])


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


def unit_of(evaluation: Manifest, metric: str | None = None) -> Unit:
    """Return the unit of a metric, by default of the first one, by which models are compared.

    A metric that is no fraction has three decimals if the first one is a fraction, otherwise as
    many as its size requires.
    """
    first = evaluation["metric"]
    name = first if metric is None else metric
    if _is_fraction(evaluation, name):
        return Unit(name)
    if _is_fraction(evaluation, first):
        return Unit(name, is_fraction=False)
    judged = [model["metrics"] for model in evaluation["models"]]
    scores = [metrics[f"test/{name}"] for metrics in judged if f"test/{name}" in metrics]
    return unit_of_scores(name, scores, is_fraction=False)


def _is_fraction(evaluation: Manifest, metric: str) -> bool:
    known = evaluation.get("is_fraction", {})
    return bool(known.get(metric, not metric.startswith(_UNBOUNDED)))
