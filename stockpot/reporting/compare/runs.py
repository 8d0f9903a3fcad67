"""Finished runs side by side: what a comparison of experiments is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockpot.metric_units import Unit
from stockpot.reporting.results import Model, Results, best_ingredient, best_soup
from stockpot.reporting.words.comparisons import SHIFT, TEST, Comparison, comparison
from stockpot.reporting.words.estimates import Estimate, read_estimate
from stockpot.reporting.words.units import unit_of

METRIC_PLACES = {SHIFT: "shift/mean", TEST: "test"}
"""What metrics call the places of a comparison."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run.

    Attributes:
        label: what the page calls it; unique.
        results: what its stages wrote.
        settings: params.yaml, flat, as text.
        links: what there is to read of it: label to address.
    """

    label: str
    results: Results
    settings: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Model:
        """Its best soup on val, or where it made none its best ingredient, as it was judged."""
        evaluation = self.results.evaluation
        return best_soup(evaluation) or best_ingredient(evaluation)

    def score(self, place: str) -> Estimate | None:
        """Return how the best one scores in a place; None where it was not judged there."""
        metric = self.results.evaluation["metric"]
        return read_estimate(self.best["metrics"], f"{METRIC_PLACES[place]}/{metric}")


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs and how their best soups compare with that of the first.

    Attributes:
        runs: two or more; the first is what the others are compared with.
        tested: paired comparisons, `model` and `reference` being labels of runs.
        untested: why others of the pairs could not be tested, by label and place.
    """

    runs: Sequence[Run]
    tested: Sequence[Mapping[str, Any]]
    untested: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def confidence(self) -> float:
        """Return the confidence of the intervals."""
        return float(self.runs[0].results.evaluation["confidence"])

    @property
    def unit(self) -> Unit:
        """The unit of the metric."""
        return unit_of_runs(self.runs)

    def comparison(self, label: str, place: str) -> Comparison | None:
        """Return how a run compares with the first; None where it was not tested."""
        return comparison({"comparisons": self.tested}, label, place)


def unit_of_runs(runs: Sequence[Run]) -> Unit:
    """Return the unit of the first metric; a fraction is one in all runs."""
    units = [unit_of(run.results.evaluation) for run in runs]
    return next((unit for unit in units if not unit.is_fraction), units[0])


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str | None]]:
    """Return the settings that are not the same in all runs.

    Returns:
        By name, in the order of the first run that has it: the text in each run; None where a run
        has no such setting.
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {name: of_runs for name, of_runs in values.items() if len({*of_runs}) > 1}


def mark(run: Run, model: str) -> str:
    """Name one model of one run, as tooltips of plots do before the colon."""
    return f"{run.label} / {model}"
