"""How far models moved from the base, and how far soups are from the ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from stockpot.reporting.plots.axes import new_figure, percent_axis
from stockpot.reporting.plots.series import merged_look, shorten
from stockpot.reporting.plots.svg import QUIET, SOUPS, house_style, tip, to_svg

Row = Mapping[str, Any]


def regime(data: Mapping[str, Any]) -> str | None:
    """Draw kernel distance against displacement, and the gap of each soup; None without data."""
    if not data:
        return None
    gaps = [row for row in data["gaps"] if row["relative"] is not None]
    with house_style():
        figure = new_figure(3.4 + (0.7 + 0.26 * len(gaps) if gaps else 0))
        heights = [3.4, 0.7 + 0.26 * len(gaps)] if gaps else [3.4]
        panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        _draw_models(panels[0], data["models"])
        if gaps:
            _draw_gaps(panels[1], gaps)
        return to_svg(
            figure,
            "regime",
            "Distance from the base",
            "Above, how far the tangent kernel turned by how far the weights moved, a mark a "
            "model; below, how far soups are from the ensemble of their ingredients.",
        )


def _draw_models(axes: Axes, rows: Sequence[Row]) -> None:
    has_kernel = all(row["ntk_distance"] is not None for row in rows)
    num_merged = 0
    for number, row in enumerate(rows):
        turned = row["ntk_distance"] if has_kernel else 1 - row["representation_alignment"]
        is_ingredient = row["kind"] == "ingredient"
        colour, marker = (QUIET, "o") if is_ingredient else merged_look(num_merged)
        num_merged += not is_ingredient
        label = "" if number else "ingredients"
        axes.plot(
            row["displacement"],
            turned,
            marker,
            color=colour,
            markersize=4.5 if is_ingredient else 8,
            label=label if is_ingredient else shorten(row["name"]),
            gid=tip(
                f"{row['name']}: moved by {100 * row['displacement']:.3g} %, turned by {turned:.3f}"
            ),
        )
    percent_axis(axes.xaxis)
    axes.set_ylim(bottom=0)
    what = "tangent kernel" if has_kernel else "representation"
    axes.set(xlabel="weights moved, relative to the base", ylabel=f"{what} turned")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_gaps(axes: Axes, gaps: Sequence[Row]) -> None:
    """Draw a bar for the average of all, then for each soup."""
    values = [row["relative"] for row in gaps]
    colours = [QUIET, *(SOUPS[place % len(SOUPS)] for place in range(len(gaps)))][: len(gaps)]
    bars = axes.barh(range(len(gaps)), values, 0.7, color=colours)
    for bar, row in zip(bars, gaps, strict=True):
        bar.set_gid(tip(f"{row['name']}: {100 * row['relative']:.0f} %"))
    axes.set_yticks(range(len(gaps)), [shorten(row["name"]) for row in gaps])
    axes.set_ylim(len(gaps) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    percent_axis(axes.xaxis)
    axes.set_title("Soup less ensemble, in shares of what fine-tuning changed")
