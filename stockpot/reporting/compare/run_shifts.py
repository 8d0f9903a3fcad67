"""Bars per test shift: the best soup of each run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from stockpot.reporting.compare.runs import Run, model_label, unit_of_runs
from stockpot.reporting.plots.bars import BarSeries, grouped_bars
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import merged_look, shorten


@plot(
    title="Score by shift",
    caption="Bars are in the order of the legend; the lines on them are confidence intervals.",
    description=(
        "Grouped bars with intervals: one group per test shift, one bar per run, in the "
        "order of the legend."
    ),
    left_out="Left out: no test shift is common to all runs.",
)
def run_shifts(runs: Sequence[Run]) -> Figure | None:
    """Draw one group of bars per test shift that all runs have; None if there is none."""
    of_runs = [run.results.evaluation["test_shifts"] for run in runs]
    groups = [shift for shift in of_runs[0] if all(shift in shifts for shifts in of_runs)]
    if not groups:
        return None
    bars = [
        BarSeries(
            shorten(run.label),
            merged_look(number)[0],
            model_label(run, run.best["name"]),
            run.best["metrics"],
        )
        for number, run in enumerate(runs)
    ]
    return grouped_bars(groups, bars, unit_of_runs(runs))
