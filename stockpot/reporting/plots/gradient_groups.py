"""Cosines between the gradients of the ingredients' training objectives, ordered by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import unit_in
from stockpot.reporting.plots.axes import one_panel
from stockpot.reporting.plots.heat_map import draw_heat_map, heat_map_height, two_decimals
from stockpot.reporting.plots.plot import plot


@plot(
    title="Gradient groups",
    caption=(
        "Cosine similarity of the gradients of the ingredients' training objectives at the "
        "uniform soup. Groups whose gradients oppose each other want different weights: try "
        "a soup of one group."
    ),
    description=(
        "Heat map of the cosines between the gradients of all pairs of objectives, "
        "ordered by group."
    ),
)
def gradient_groups(data: Mapping[str, Any]) -> Figure:
    """Draw the heat map, ordered by group.

    Args:
        data: of the finding `gradient_groups`.
    """
    groups, unit = data["groups"], unit_in(data)
    placed = [
        (letter, data["ingredients"].index(name), name)
        for letter, group in zip(ascii_uppercase, groups, strict=False)
        for name in group["ingredients"]
    ]
    names = [name for _, _, name in placed]
    cosines = [[data["cosines"][row][column] for _, column, _ in placed] for _, row, _ in placed]
    faint = min(0.0, *map(min, cosines))
    figure, axes = one_panel(heat_map_height(len(names)) + 0.2 * len(groups))
    draw_heat_map(axes, names, cosines, (faint, 1.0), two_decimals)
    lines = [f"cosine of gradients: {two_decimals(faint)} (faint) to 1 (full)"]
    if len(groups) > 1:
        lines += [
            f"group {letter}: its soup scores {unit.score_in_full(group['metric'])} on val"
            for letter, group in zip(ascii_uppercase, groups, strict=False)
        ]
        _letter(axes, [letter for letter, _, _ in placed])
    axes.set_title("\n".join(lines))
    return figure


def _letter(axes: Axes, letters: Sequence[str]) -> None:
    """Prefix each name with the letter of its group; each axis lacks one name."""
    for axis, shown in ((axes.xaxis, letters[:-1]), (axes.yaxis, letters[1:])):
        texts = [label.get_text() for label in axis.get_ticklabels()]
        named = zip(shown, texts, strict=False)  # a large heat map shows the first names alone
        axis.set_ticklabels([f"{letter} {text}" for letter, text in named])
