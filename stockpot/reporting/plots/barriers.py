"""What is lost half-way between two ingredients, and the loss along two lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from stockpot.metric_units import Unit, unit_in
from stockpot.reporting.plots.axes import new_figure
from stockpot.reporting.plots.heat_map import draw_heat_map, heat_map_height
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import INK, QUIET, SOUPS, house_style, tip, to_svg

_LINES = 2.6  # inches
_WORTH_SEEING = 0.02  # of a fraction, or of a usual score: a smaller largest loss fills no cell
_LOOKS = {"base_to_soup": (SOUPS[0], "o"), "furthest_two": (SOUPS[1], "D")}


def barriers(data: Mapping[str, Any]) -> str | None:
    """Draw the heat map of pairs and the lines; None where there is neither.

    Args:
        data: of the finding `barriers`.
    """
    if not data:
        return None
    names, lines = data["ingredients"], data["lines"]
    heights = [heat_map_height(len(names))] if len(names) > 1 else []
    heights += [_LINES] if lines else []
    if not heights:
        return None
    with house_style():
        figure = new_figure(sum(heights))
        panels = list(figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
        if lines:
            _draw_lines(panels.pop(), lines)
        if panels:
            _draw_pairs(panels[0], names, data["metric_changes"], unit_in(data))
        return to_svg(
            figure,
            "barriers",
            "Barriers",
            "Above, how the mean of each two ingredients scores against the two, as a heat map "
            "whose full cells lose most; below, the loss along two lines.",
        )


def _draw_pairs(
    axes: Axes, names: Sequence[str], changes: Sequence[Sequence[float]], unit: Unit
) -> None:
    falls = [[-change for change in row] for row in changes]
    off_diagonal = [value for i, row in enumerate(falls) for j, value in enumerate(row) if i != j]
    scale = (min(off_diagonal), max(_WORTH_SEEING * unit.size, *off_diagonal))
    draw_heat_map(axes, names, falls, scale, lambda fall: _signed(unit, -fall))
    measured = f"points of {unit.metric}" if unit.is_fraction else unit.metric
    axes.set_title(
        f"{measured} half-way, against the mean of the two:\n"
        f"{_signed(unit, -scale[0])} (faint) to {_signed(unit, -scale[1])} (full)"
    )


def _signed(unit: Unit, value: float) -> str:
    return unit.signed(value).replace("-", "\N{MINUS SIGN}")


def _draw_lines(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    for line in lines:
        colour, marker = _LOOKS[line["kind"]]
        ends = f"{shorten(line['from'], 18)} to {shorten(line['to'], 18)}"
        axes.plot(line["shares"], line["losses"], color=colour, linewidth=1.2, label=ends)
        for share, loss in zip(line["shares"], line["losses"], strict=True):
            note = tip(f"{ends}, {100 * share:.0f} %: loss {loss:.3g}")
            axes.plot(share, loss, marker, color=colour, markersize=4.5, gid=note)
        first, last = line["losses"][0], line["losses"][-1]
        axes.plot([0, 1], [first, last], ":", color=QUIET, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of the second model")
    axes.set_ylabel("loss on val", color=INK)
    axes.legend()
