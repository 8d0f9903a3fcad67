"""The cosines between the gradients of the ingredients' objectives, ordered by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from matplotlib.axes import Axes

from stockpot.metric_units import unit_in
from stockpot.reporting.plots.axes import new_figure
from stockpot.reporting.plots.heat_map import draw_heat_map, heat_map_height
from stockpot.reporting.plots.svg import house_style, to_svg


def gradient_groups(data: Mapping[str, Any]) -> str | None:
    """Draw the heat map, groups one after the other; None where no gradients were compared.

    Args:
        data: of the finding `gradient_groups`.
    """
    if not data:
        return None
    groups, unit = data["groups"], unit_in(data)
    placed = [
        (letter, data["ingredients"].index(name), name)
        for letter, group in zip(ascii_uppercase, groups, strict=False)
        for name in group["ingredients"]
    ]
    names = [name for _, _, name in placed]
    cosines = [[data["cosines"][row][column] for _, column, _ in placed] for _, row, _ in placed]
    lowest = min(min(row) for row in cosines)
    with house_style():
        figure = new_figure(heat_map_height(len(names)) + 0.2 * len(groups))
        axes = figure.subplots()
        faint = min(lowest, 0.0)
        draw_heat_map(axes, names, cosines, (faint, 1.0), _written)
        told = [f"cosine of gradients: {_written(faint)} (faint) to 1 (full)"]
        if len(groups) > 1:
            told += [
                f"group {letter}: its soup scores {unit.score_in_full(group['metric'])} on val"
                for letter, group in zip(ascii_uppercase, groups, strict=False)
            ]
            _letter(axes, [letter for letter, _, _ in placed])
        axes.set_title("\n".join(told))
        return to_svg(
            figure,
            "gradient-groups",
            "Gradients of the training objectives",
            "How far the objectives of each two ingredients pull the same way at the uniform "
            "soup, as a heat map, groups one after the other.",
        )


def _written(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _letter(axes: Axes, letters: Sequence[str]) -> None:
    """Put the letter of its group before each name on both axes, which lack one name each."""
    for axis, shown in ((axes.xaxis, letters[:-1]), (axes.yaxis, letters[1:])):
        texts = [label.get_text() for label in axis.get_ticklabels()]
        named = zip(shown, texts, strict=False)  # a heat map of very many shows the first ones
        axis.set_ticklabels([f"{letter} {text}" for letter, text in named])
