"""Score of averages of ingredients by their number: would more ingredients help?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit, unit_in
from stockpot.reporting.plots.axes import legend_below, limits, mark, new_figure, score_axis
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.svg import INK, SOUPS

Curve = Mapping[str, Any]

_LOOKS = {"val": ("o", SOUPS[0], "val"), "val_shift": ("D", SOUPS[1], "val shifts (mean)")}


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
def soup_size(data: Mapping[str, Any]) -> Figure | None:
    """Draw one panel per set of examples; None for one ingredient.

    Args:
        data: of the finding `soup_size`.
    """
    if not data:
        return None
    curves = data["curves"]
    figure = new_figure(3.4)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (place, curve) in zip(panels, curves.items(), strict=True):
        _draw(axes, place, curve, unit_in(data))
    panels[0].set_ylabel(f"{data['metric']} of the average")
    legend_below(figure, panels[0])
    return figure


def _draw(axes: Axes, place: str, curve: Curve, unit: Unit) -> None:
    marker, colour, title = _LOOKS[place]
    num = len(curve["mean"])
    sizes = range(1, num + 1)
    axes.fill_between(
        sizes, curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0, label="80 % band"
    )
    for size, score in zip(sizes, curve["mean"], strict=True):
        note = f"{size} of {num} ingredients, on {title}: {unit.score(score)}"
        mark(axes, (size, score), (colour, marker), 4.5, note, label="mean score")
    if "slope" in curve:
        further = np.linspace(2, 2 * num, 60)
        fitted = curve["level"] + curve["slope"] / further
        axes.plot(further, fitted, "--", color=INK, linewidth=1, label="fit: a + b / number")
    axes.set_ylim(*limits([*curve["mean"], *curve["low"][1:], *curve["high"]]))
    axes.set_title(f"on {title}")
    axes.set_xlabel("number of ingredients")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    score_axis(axes.yaxis, unit)
