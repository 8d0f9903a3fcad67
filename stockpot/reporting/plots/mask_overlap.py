"""Overlap of masks: by layer, and between ingredients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import legend_right, mark, stacked_panels
from stockpot.reporting.plots.heat_map import draw_heat_map, heat_map_height, two_decimals
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import BASE, INK, QUIET

_CURVES = 2.9  # inches
_MOST_LAYERS = 16  # of more, so many at even distances are drawn
_LINES = (
    ("mean of pairs", "mean", INK, "-"),
    ("lowest pair", "lowest", QUIET, "-"),
    ("independent masks", "expected", BASE, "--"),
)


@plot(
    title="Overlap of masks",
    caption=(
        "Jaccard index of the weights that are not 0: those that two ingredients share, of those "
        "that either has. At 1 they have one mask, and averages are as sparse as they are. Near "
        "the line of independent masks they have moved apart: a union is much denser, and the "
        "method count_mean averages each weight over the ingredients that have it."
    ),
    description=(
        "Above, the Jaccard index by layer; below, a heat map of all pairs of ingredients, over "
        "all layers."
    ),
)
def mask_overlap(data: Mapping[str, Any]) -> Figure:
    """Draw curves over layers and the heat map of ingredients.

    Args:
        data: of the finding `mask_overlap`.
    """
    names = data["ingredients"]
    figure, (curves, cells) = stacked_panels([_CURVES, heat_map_height(len(names))])
    _draw_layers(curves, _few(data["layers"]))
    matrix = data["pairs"]["total"]
    faint = math.floor(10 * min(0.99, *map(min, matrix))) / 10
    draw_heat_map(cells, names, matrix, (faint, 1.0), two_decimals)
    cells.set_title(f"Jaccard index of two masks: {faint:.1f} (faint) to 1 (full)")
    return figure


def _draw_layers(axes: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    labels = [shorten(layer["name"].removesuffix(".weight"), 18) for layer in layers]
    for label, key, colour, style in _LINES:
        values = [layer[key] for layer in layers]
        axes.plot(range(len(layers)), values, style, color=colour, linewidth=1.4, label=label)
        for place, value in enumerate(values):
            mark(axes, (place, value), (colour, "o"), 5, f"{label}, {labels[place]}: {value:.2f}")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(range(len(layers)), labels, rotation=30, ha="right", fontsize=8)
    axes.set_title("Jaccard index by layer")
    legend_right(axes)


def _few(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return layers at even distances, first and last included."""
    if len(layers) <= _MOST_LAYERS:
        return [*layers]
    gaps = _MOST_LAYERS - 1
    return [layers[round(place * (len(layers) - 1) / gaps)] for place in range(_MOST_LAYERS)]
