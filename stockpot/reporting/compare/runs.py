"""The finished runs of a comparison of experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockpot.metric_units import Unit
from stockpot.reporting.results import ModelEntry, Results, best_ingredient, best_soup, unit_of
from stockpot.reporting.words.comparisons import METRIC_PLACES, Comparison, comparison
from stockpot.reporting.words.estimates import Estimate, read_estimate


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run.

    Attributes:
        label: its name in the page; unique.
        results: the manifests of its stages.
        settings: params.yaml, flattened, as text.
        links: addresses of its report or MLflow run, by label.
    """

    label: str
    results: Results
    settings: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> ModelEntry:
        """Its best soup on val, or its best ingredient if it has no soups, as evaluated."""
        evaluation = self.results.evaluation
        return best_soup(evaluation) or best_ingredient(evaluation)

    def score(self, place: str) -> Estimate | None:
        """Return the score of the best model at a place; None if it was not evaluated there."""
        metric = self.results.evaluation["metric"]
        return read_estimate(self.best["metrics"], f"{METRIC_PLACES[place]}/{metric}")


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs and the comparisons of their best soups with that of the first.

    Attributes:
        runs: two or more; the first is the reference.
        tested: paired comparisons, in which `model` and `reference` are labels of runs.
        untested: why other pairs could not be tested, by label and place.
    """

    runs: Sequence[Run]
    tested: Sequence[Mapping[str, Any]]
    untested: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def confidence(self) -> float:
        """The confidence of the intervals."""
        return float(self.runs[0].results.evaluation["confidence"])

    @property
    def unit(self) -> Unit:
        """The unit of the metric; it is a fraction only if it is one in all runs."""
        units = [unit_of(run.results.evaluation) for run in self.runs]
        return next((unit for unit in units if not unit.is_fraction), units[0])

    def comparison(self, label: str, place: str) -> Comparison | None:
        """Return the comparison of a run with the first; None if it was not tested."""
        return comparison({"comparisons": self.tested}, label, place)


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str | None]]:
    """Return the settings that differ between the runs.

    Returns:
        The text in each run by name, in the order of first appearance; None for a run without the
        setting.
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: of_runs for name, of_runs in values.items() if len({*of_runs}) > 1}


def model_label(run: Run, model: str) -> str:
    """Return the name of a model of a run, with which tooltips start."""
    return f"{run.label} / {model}"
