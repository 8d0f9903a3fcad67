"""Bars per test shift: the best soup of each run."""

from __future__ import annotations

from matplotlib.figure import Figure

from stockpot.reporting.compare.run_series import run_series
from stockpot.reporting.compare.runs import Runs
from stockpot.reporting.plots.bars import grouped_bars
from stockpot.reporting.plots.plot import plot


@plot(
    title="Score by shift",
    caption="Bars are in the order of the legend; the lines on them are confidence intervals.",
    description=(
        "Grouped bars with intervals: one group per test shift, one bar per run, in the "
        "order of the legend."
    ),
    left_out="Left out: no test shift is common to all runs.",
)
def run_shifts(compared: Runs) -> Figure | None:
    """Draw one group of bars per test shift that all runs have; None if there is none."""
    of_runs = [run.results.evaluation["test_shifts"] for run in compared.runs]
    groups = [shift for shift in of_runs[0] if all(shift in shifts for shifts in of_runs)]
    if not groups:
        return None
    return grouped_bars(groups, run_series(compared.runs), compared.unit)
