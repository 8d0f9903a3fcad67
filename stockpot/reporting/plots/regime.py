"""Distance of models from the base, and of soups from the ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import (
    label_rows,
    legend_right,
    mark,
    percent_axis,
    stacked_panels,
)
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import merged_look, shorten
from stockpot.reporting.plots.svg import QUIET, SOUPS, tip

Row = Mapping[str, Any]


@plot(
    title="Lazy or rich training",
    caption=(
        "How far fine-tuning moved the weights (to the right) and the features (up). A "
        "lazily trained net is almost linear in its weights, so a soup predicts like the "
        "ensemble; the bars show how far it deviates."
    ),
    description=(
        "Above, one mark per model: change of the tangent kernel against the distance of "
        "the weights from the base; below, distance of the soups from the ensemble of "
        "their ingredients."
    ),
)
def regime(data: Mapping[str, Any]) -> Figure:
    """Draw kernel distance against displacement, and the gap of each soup."""
    gaps = [row for row in data["gaps"] if row["relative"] is not None]
    heights = [3.4, 0.7 + 0.26 * len(gaps)] if gaps else [3.4]
    figure, panels = stacked_panels(heights)
    _draw_models(panels[0], data["models"])
    if gaps:
        _draw_gaps(panels[1], gaps)
    return figure


def _draw_models(axes: Axes, rows: Sequence[Row]) -> None:
    has_kernel = all(row["ntk_distance"] is not None for row in rows)
    what = f"change of the {'tangent kernel' if has_kernel else 'representation'}"
    num_merged = 0
    for row in rows:
        change = row["ntk_distance"] if has_kernel else 1 - row["representation_alignment"]
        distance = f"{100 * row['displacement']:.3g} %"
        is_ingredient = row["kind"] == "ingredient"
        look = (QUIET, "o") if is_ingredient else merged_look(num_merged)
        num_merged += not is_ingredient
        size, label = (4.5, "ingredients") if is_ingredient else (8, shorten(row["name"]))
        note = f"{row['name']}: weights moved {distance}, {what} {change:.3f}"
        mark(axes, (row["displacement"], change), look, size, note, label=label)
    percent_axis(axes.xaxis)
    axes.set_ylim(bottom=0)
    axes.set(xlabel="relative distance of the weights from the base", ylabel=what)
    legend_right(axes)


def _draw_gaps(axes: Axes, gaps: Sequence[Row]) -> None:
    """Draw one bar for the average of all, then one per soup."""
    values = [row["relative"] for row in gaps]
    colours = [QUIET, *(SOUPS[place % len(SOUPS)] for place in range(len(gaps)))][: len(gaps)]
    bars = axes.barh(range(len(gaps)), values, 0.7, color=colours)
    for bar, row in zip(bars, gaps, strict=True):
        bar.set_gid(tip(f"{row['name']}: {100 * row['relative']:.0f} %"))
    label_rows(axes, [shorten(row["name"]) for row in gaps])
    percent_axis(axes.xaxis)
    axes.set_title("Soup minus ensemble, relative to what fine-tuning changed")
