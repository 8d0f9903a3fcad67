"""Similarity of representations: by layer, and between ingredients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import legend_right, mark, stacked_panels
from stockpot.reporting.plots.heat_map import draw_heat_map, heat_map_height
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import BASE, ENSEMBLE, INK, QUIET, SOUPS

_CURVES = 2.9  # inches

Line = tuple[str, Sequence[float | None], str, str]


@plot(
    title="Representations by layer",
    caption=(
        "Similarity of activations (linear CKA). Where ingredients agree, averaging loses "
        "little. Where the variance of a soup is far below 1, averaging has collapsed the "
        "layer's activations."
    ),
    description=(
        "Above, similarity by layer, from inputs to outputs; below, a heat map of the "
        "mean similarity of all pairs of ingredients."
    ),
)
def geometry(data: Mapping[str, Any]) -> Figure:
    """Draw curves over layers and the heat map of ingredients."""
    names = data["ingredients"]
    has_pairs = len(names) > 1
    heights = [_CURVES, heat_map_height(len(names))] if has_pairs else [_CURVES]
    figure, panels = stacked_panels(heights)
    _draw_curves(panels[0], data)
    if has_pairs:
        _draw_pairs(panels[1], names, data["pairs"]["mean"])
    return figure


def _draw_curves(axes: Axes, data: Mapping[str, Any]) -> None:
    layers = [shorten(layer, 18) for layer in data["layers"]]
    for label, values, colour, style in _lines(data):
        known = [(place, value) for place, value in enumerate(values) if value is not None]
        axes.plot(*zip(*known, strict=True), style, color=colour, linewidth=1.4, label=label)
        for place, value in known:
            mark(axes, (place, value), (colour, "o"), 5, f"{label}, {layers[place]}: {value:.2f}")
    axes.axhline(1, color=QUIET, linewidth=0.8)
    axes.set_xticks(range(len(layers)), layers, rotation=30, ha="right", fontsize=8)
    axes.set_title("CKA by layer (1: identical), and variance (1: that of the ingredients)")
    legend_right(axes)


def _lines(data: Mapping[str, Any]) -> list[Line]:
    """Return the curves: means over ingredients, then the best soup."""
    ingredients = [row for row in data["models"] if row["kind"] == "ingredient"]
    looks = {
        "inputs": ("ingredients, inputs", QUIET),
        "targets": ("ingredients, targets", BASE),
        "ingredients": ("two ingredients", INK),
    }
    lines: list[Line] = []
    for name, (label, colour) in looks.items():
        columns = [row[name] for row in ingredients if row[name] is not None]
        if columns:
            means = [fmean(values) for values in zip(*columns, strict=True)]
            lines.append((label, means, colour, "-"))
    for row in data["models"]:
        if row["name"] == data["best_soup"] and row["ingredients"] is not None:
            label = shorten(row["name"], 14)
            lines.append((f"{label}, its ingredients", row["ingredients"], SOUPS[0], "-"))
            if any(ratio is not None for ratio in row["variance_ratio"]):
                lines.append((f"{label}, variance", row["variance_ratio"], ENSEMBLE, "--"))
    return lines


def _draw_pairs(axes: Axes, names: Sequence[str], matrix: Sequence[Sequence[float]]) -> None:
    light = math.floor(10 * min(0.99, *map(min, matrix))) / 10
    draw_heat_map(axes, names, matrix, (light, 1.0), lambda value: f"{value:.2f}")
    axes.set_title(f"CKA of two ingredients, mean of layers: {light:.1f} (faint) to 1 (full)")
