"""Contribution of each ingredient: its Shapley value, and the change when it is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit, unit_in
from stockpot.reporting.plots.axes import label_rows, legend_below, mark, new_figure
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import VAL_PLACES, shorten
from stockpot.reporting.plots.svg import INK

Row = Mapping[str, Any]

_MAX_ROWS = 30  # per group; of more ingredients, the best and the worst are drawn


@plot(
    title="Contribution of each ingredient",
    caption=(
        "Left: Shapley values, which divide the gain over the base fairly between the "
        "ingredients. Right: change of the score when one ingredient is left out; right of "
        "the line, the soup is better without it."
    ),
    description=(
        "One row per ingredient: left its Shapley value with its standard error, right "
        "the change of the score of the average when it is left out."
    ),
)
def contributions(data: Mapping[str, Any]) -> Figure:
    """Draw one row per ingredient, the largest value first.

    Args:
        data: of the finding `contributions`.
    """
    groups = [(group["name"], _shown(group["rows"])) for group in data["groups"]]
    heights = [len(rows) + 2 for _, rows in groups]
    figure = new_figure(0.9 + 0.22 * sum(heights))
    panels = figure.subplots(
        len(groups), 2, sharey="row", sharex="col", squeeze=False, height_ratios=heights
    )
    for (name, rows), (worth, without) in zip(groups, panels, strict=True):
        for place, row in enumerate(rows):
            _draw(worth, place, row, "shapley", data)
            _draw(without, place, row, "change", data)
        label_rows(worth, [shorten(row["ingredient"], 18) for row in rows], fontsize=8.5)
        worth.set_title(f"{shorten(name)}: Shapley value")
        without.set_title("when it is left out")
    for axes in panels.flat:
        _set_axis(axes, unit_in(data))
    for axes in panels[-1]:
        axes.set_xlabel(unit_in(data).differences)
    legend_below(figure, panels[0][0])
    return figure


def _shown(rows: Sequence[Row]) -> list[Row]:
    """Sort the rows by value on val; of too many, return the best and the worst."""
    ordered = sorted(rows, key=lambda row: -row["shapley"]["val"])
    if len(ordered) <= _MAX_ROWS:
        return ordered
    half = _MAX_ROWS // 2
    return [*ordered[:half], *ordered[len(ordered) - half :]]


def _draw(axes: Axes, place: int, row: Row, field: str, data: Row) -> None:
    sets, unit = data["places"], unit_in(data)
    for number, (name, value) in enumerate((name, row[field][name]) for name in sets):
        label, look = VAL_PLACES[name]
        height = place + 0.25 * (number - (len(sets) - 1) / 2)
        if field == "shapley":
            ends = [value - row["error"][name], value + row["error"][name]]
            axes.plot(ends, [height, height], color=look[0], linewidth=1.4)
        note = f"{row['ingredient']}: {unit.difference_in_full(value)} {label}"
        mark(axes, (value, height), look, 5, note, label=label)


def _set_axis(axes: Axes, unit: Unit) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: unit.difference(value) if value else "0")
