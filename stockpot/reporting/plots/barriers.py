"""The loss of averages of two ingredients, and the loss along two lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit, unit_in
from stockpot.reporting.plots.axes import mark, stacked_panels
from stockpot.reporting.plots.heat_map import draw_heat_map, heat_map_height, off_diagonal
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import INK, QUIET, SOUPS
from stockpot.reporting.words.estimates import typeset

_LINES = 2.6  # inches
_VISIBLE_LOSS = 0.02  # relative to a usual score: if all losses are smaller, no cell is full
_LOOKS = {"base_to_soup": (SOUPS[0], "o"), "furthest_two": (SOUPS[1], "D")}


@plot(
    title="Loss barriers",
    caption=(
        "Above: how much the average of two ingredients loses against their mean score; a "
        "fuller colour is a larger loss. Below: the val loss along the line between two "
        "models. Where it is above its dotted line there is a loss barrier, and averaging "
        "across it costs performance."
    ),
    description=(
        "Above, a heat map of pairs: how the average of two ingredients scores against "
        "their mean, fuller cells lose more; below, the loss along two lines."
    ),
)
def barriers(data: Mapping[str, Any]) -> Figure | None:
    """Draw the heat map of pairs and the lines; None if there is neither.

    Args:
        data: of the finding `barriers`.
    """
    names, lines = data["ingredients"], data["lines"]
    heights = [heat_map_height(len(names))] if len(names) > 1 else []
    heights += [_LINES] if lines else []
    if not heights:
        return None
    figure, panels = stacked_panels(heights)
    if lines:
        _draw_lines(panels.pop(), lines)
    if panels:
        _draw_pairs(panels[0], names, data["metric_changes"], unit_in(data))
    return figure


def _draw_pairs(
    axes: Axes, names: Sequence[str], changes: Sequence[Sequence[float]], unit: Unit
) -> None:
    falls = [[-change for change in row] for row in changes]
    of_pairs = off_diagonal(falls)
    scale = (min(of_pairs), max(_VISIBLE_LOSS * unit.size, *of_pairs))
    draw_heat_map(axes, names, falls, scale, lambda fall: _signed(unit, -fall))
    measured = f"points of {unit.metric}" if unit.is_fraction else unit.metric
    axes.set_title(
        f"{measured} at the midpoint, against the mean of both:\n"
        f"{_signed(unit, -scale[0])} (faint) to {_signed(unit, -scale[1])} (full)"
    )


def _signed(unit: Unit, value: float) -> str:
    return typeset(unit.signed(value))


def _draw_lines(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    for line in lines:
        colour, marker = _LOOKS[line["kind"]]
        ends = f"{shorten(line['from'], 18)} to {shorten(line['to'], 18)}"
        axes.plot(line["shares"], line["losses"], color=colour, linewidth=1.2, label=ends)
        for share, loss in zip(line["shares"], line["losses"], strict=True):
            note = f"{ends}, {100 * share:.0f} %: loss {loss:.3g}"
            mark(axes, (share, loss), (colour, marker), 4.5, note)
        first, last = line["losses"][0], line["losses"][-1]
        axes.plot([0, 1], [first, last], ":", color=QUIET, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of the second model")
    axes.set_ylabel("loss on val", color=INK)
    axes.legend()
