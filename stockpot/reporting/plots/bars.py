"""Grouped bars of scores under shift: one group per shift, one bar per model."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import WIDTH, error_lengths, legend_below, one_panel, score_axis
from stockpot.reporting.plots.series import Series, shorten
from stockpot.reporting.plots.svg import INK, tip
from stockpot.reporting.words.estimates import estimate_of

_GROUP_WIDTH = 0.84  # of the distance between two groups


def grouped_bars(shifts: Sequence[str], models: Sequence[Series], unit: Unit) -> Figure:
    """Draw the scores under each shift with their intervals, in the order of `models`."""
    figure, axes = one_panel(3.9, max(WIDTH, 0.09 * len(shifts) * len(models) + 1.5))
    width = 0.92 * (_GROUP_WIDTH / len(models))
    for place, series in enumerate(models):
        offset = ((place + 0.5) / len(models) - 0.5) * _GROUP_WIDTH
        positions = [number + offset for number in range(len(shifts))]
        names = [f"shift/{shift}/{unit.metric}" for shift in shifts]
        scores = [estimate_of(series.model["metrics"], name) for name in names]
        values = [score.value for score in scores]
        bars = axes.bar(positions, values, width, color=series.colour, label=series.label)
        for bar, shift, value in zip(bars, shifts, values, strict=True):
            bar.set_gid(tip(f"{series.model['name']}: {shift} {unit.score(value)}"))
        lengths = error_lengths(scores)
        axes.errorbar(positions, values, yerr=lengths, fmt="none", ecolor=INK, elinewidth=0.9)
    axes.set_xticks(range(len(shifts)), [shorten(shift, 14) for shift in shifts])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(unit.metric)
    score_axis(axes.yaxis, unit)
    legend_below(figure, axes)
    return figure
