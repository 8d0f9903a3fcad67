"""Grouped bars of scores under shift: one group per shift, one bar per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import (
    WIDTH,
    error_lengths,
    legend_below,
    new_figure,
    score_axis,
)
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import INK, tip
from stockpot.reporting.words.estimates import estimate_of

_GROUP_WIDTH = 0.84  # of the distance between two groups


@dataclass(frozen=True, slots=True)
class BarSeries:
    """The bars of one model.

    Attributes:
        label: in the legend.
        colour: of all its bars.
        name: with which its tooltips start.
        metrics: of the model, with one score per shift.
    """

    label: str
    colour: str
    name: str
    metrics: Mapping[str, float]


def grouped_bars(shifts: Sequence[str], models: Sequence[BarSeries], unit: Unit) -> Figure:
    """Draw the scores under each shift with their intervals, in the order of `models`."""
    figure = new_figure(3.9, max(WIDTH, 0.09 * len(shifts) * len(models) + 1.5))
    axes = figure.add_subplot()
    width = _GROUP_WIDTH / len(models)
    for place, model in enumerate(models):
        offset = ((place + 0.5) / len(models) - 0.5) * _GROUP_WIDTH
        _draw_bars(axes, model, shifts, (offset, width), unit)
    axes.set_xticks(range(len(shifts)), [shorten(shift, 14) for shift in shifts])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(unit.metric)
    score_axis(axes.yaxis, unit)
    legend_below(figure, axes)
    return figure


def _draw_bars(
    axes: Axes, model: BarSeries, shifts: Sequence[str], place: tuple[float, float], unit: Unit
) -> None:
    offset, width = place
    scores = [estimate_of(model.metrics, f"shift/{shift}/{unit.metric}") for shift in shifts]
    positions = [number + offset for number in range(len(shifts))]
    values = [score.value for score in scores]
    bars = axes.bar(positions, values, 0.92 * width, color=model.colour, label=model.label)
    for bar, shift, value in zip(bars, shifts, values, strict=True):
        bar.set_gid(tip(f"{model.name}: {shift} {unit.score(value)}"))
    lengths = error_lengths(scores)
    axes.errorbar(positions, values, yerr=lengths, fmt="none", ecolor=INK, elinewidth=0.9)
