"""Bars per test shift: base, best ingredient, soups and ensemble."""

from __future__ import annotations

from matplotlib.figure import Figure

from stockpot.reporting.plots.bars import grouped_bars
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import main_series
from stockpot.reporting.results import Manifest, unit_of


@plot(
    title="Score by shift",
    caption="Bars are in the order of the legend; the lines on them are confidence intervals.",
    description=(
        "Grouped bars with intervals: one group per test shift, one bar per model, in "
        "the order of the legend."
    ),
    left_out="Left out: the experiment has no test shifts.",
)
def shifts(evaluation: Manifest) -> Figure | None:
    """Draw one group of bars per shift, and one for their mean; None without test shifts."""
    groups = list(evaluation["test_shifts"])
    if not groups:
        return None
    series = main_series(evaluation)
    # Only one ensemble: all have the same colour, and bars have no markers.
    ensembles = [one for one in series if one.model["kind"] in ("ensemble", "repeats")]
    bars = [one for one in series if one not in ensembles[1:]]
    return grouped_bars([*groups, *(["mean"] * (len(groups) > 1))], bars, unit_of(evaluation))
