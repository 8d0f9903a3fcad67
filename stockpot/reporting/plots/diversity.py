"""Disagreement of the ingredients, and what soups and ensemble gain from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit, unit_in
from stockpot.reporting.plots.axes import (
    difference_axis,
    legend_right,
    mark,
    percent_axis,
    stacked_panels,
)
from stockpot.reporting.plots.heat_map import draw_heat_map, heat_map_height
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import merged_look, shorten
from stockpot.reporting.plots.svg import ENSEMBLE, INK, QUIET
from stockpot.reporting.words.estimates import percent

_GAINS = 2.9  # inches


@plot(
    title="Diversity of predictions",
    caption=(
        "Above: the gain of soups and ensemble, by how often ingredients disagree. A soup "
        "far below the ensemble wastes their diversity. Below: which ingredients disagree."
    ),
    description=(
        "Above, gain of ensemble and soups over the mean ingredient, by the disagreement "
        "of two ingredients on a set; below, a heat map of the disagreement of all pairs "
        "on val."
    ),
)
def diversity(data: Mapping[str, Any]) -> Figure:
    """Draw gain against disagreement, one column of marks per set, and the heat map on val."""
    height = heat_map_height(len(data["ingredients"]))
    figure, (gains, pairs) = stacked_panels([_GAINS, height])
    _draw_gains(gains, data["sets"], unit_in(data))
    _draw_pairs(pairs, data)
    return figure


def _draw_gains(axes: Axes, sets: Mapping[str, Mapping[str, Any]], unit: Unit) -> None:
    axes.axhline(0, color=INK, linewidth=1)
    for number, (name, values) in enumerate(sets.items()):
        looks = {"logit ensemble": (values["ensemble_gain"], ENSEMBLE, "*")} | {
            soup: (gain, *merged_look(place))
            for place, (soup, gain) in enumerate(values["soup_gains"].items())
        }
        x = values["disagreement"]
        axes.axvline(x, color=QUIET, linewidth=0.6, zorder=0.5)
        axes.annotate(
            shorten(name.removeprefix("val_shift/"), 14),
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3 if number % 2 else -3, -3),
            textcoords="offset points",
            ha="left" if number % 2 else "right",
            va="top",
            fontsize=8.5,
        )
        for model, (gain, colour, marker) in looks.items():
            note = f"{model}: {unit.difference_in_full(gain)} on {name}"
            mark(axes, (x, gain), (colour, marker), 7, note, label=shorten(model))
    percent_axis(axes.xaxis)
    difference_axis(axes.yaxis, unit)
    axes.set_xlabel("mean disagreement of two ingredients")
    axes.set_ylabel(f"{unit.differences} over the mean ingredient")
    axes.margins(x=0.15, y=0.15)
    legend_right(axes)


def _draw_pairs(axes: Axes, data: Mapping[str, Any]) -> None:
    matrix = data["sets"]["val"]["pairs"]
    most = max(value for row in matrix for value in row)
    draw_heat_map(axes, data["ingredients"], matrix, (0.0, most), percent)
    axes.set_title(f"Disagreement on val: 0 % (faint) to {percent(most)} % (full)")
