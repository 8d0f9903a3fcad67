"""Score of averages of ingredients by their number: would more ingredients help?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit, unit_in
from stockpot.reporting.plots.axes import legend_below, limits, mark, score_axis, side_panels
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import VAL_PLACES
from stockpot.reporting.plots.svg import INK


@plot(
    title="Score by number of ingredients",
    caption=(
        "Mean score of averages of 1, 2, 3 and more ingredients; the band covers most of "
        "them. Where the curve is flat, more ingredients of the same kind will not help."
    ),
    description=(
        "Mean score of averages of 1, 2, 3 and more ingredients, a band that covers most "
        "of them, and the fitted curve up to twice as many."
    ),
)
def soup_size(data: Mapping[str, Any]) -> Figure:
    """Draw one panel per set of examples.

    Args:
        data: of the finding `soup_size`.
    """
    curves, unit = data["curves"], unit_in(data)
    figure, panels = size_panels(3.4, [VAL_PLACES[place][0] for place in curves], unit)
    for axes, (place, curve) in zip(panels, curves.items(), strict=True):
        _draw(axes, place, curve, unit)
    legend_below(figure, panels[0])
    return figure


def size_panels(height: float, titles: Iterable[str], unit: Unit) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, for scores by the number of ingredients."""
    figure, panels = side_panels(height, titles)
    panels[0].set_ylabel(f"{unit.metric} of the average")
    for axes in panels:
        axes.set_xlabel("number of ingredients")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        score_axis(axes.yaxis, unit)
    return figure, panels


def _draw(axes: Axes, place: str, curve: Mapping[str, Any], unit: Unit) -> None:
    title, look = VAL_PLACES[place]
    num = len(curve["mean"])
    sizes = range(1, num + 1)
    band: dict[str, Any] = {"alpha": 0.15, "linewidth": 0, "label": "80 % band"}
    axes.fill_between(sizes, curve["low"], curve["high"], color=look[0], **band)
    for size, score in zip(sizes, curve["mean"], strict=True):
        note = f"{size} of {num} ingredients, {title}: {unit.score(score)}"
        mark(axes, (size, score), look, 4.5, note, label="mean score")
    if "slope" in curve:
        further = np.linspace(2, 2 * num, 60)
        fitted = curve["level"] + curve["slope"] / further
        axes.plot(further, fitted, "--", color=INK, linewidth=1, label="fit: a + b / number")
    axes.set_ylim(*limits([*curve["mean"], *curve["low"][1:], *curve["high"]]))
