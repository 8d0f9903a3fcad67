"""Cosines between task vectors, in the order of their dendrogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from stockpot.reporting.plots.axes import stacked_panels
from stockpot.reporting.plots.heat_map import (
    draw_heat_map,
    heat_map_height,
    off_diagonal,
    two_decimals,
)
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.svg import INK, SOUPS, tip

_TREE = 1.5  # inches
_APART = 10.0  # scipy's distance between leaves


@plot(
    title="Similarity of task vectors",
    caption=(
        "Cosine similarity of what fine-tuning changed. Near 1: the ingredients learnt the "
        "same, and averaging adds little. Near 0: they changed in unrelated directions. "
        "Negative: they cancel each other. Branches that join above the cut are separate "
        "clusters."
    ),
    description=(
        "Above, the dendrogram of the ingredients; below, a heat map of the cosines of "
        "all pairs, in the order of the dendrogram."
    ),
)
def similarity(data: Mapping[str, Any]) -> Figure:
    """Draw the dendrogram and the heat map.

    Args:
        data: of the finding `similarity`.
    """
    order = data["order"]
    names = [data["ingredients"][place] for place in order]
    cosines = [[data["cosines"][row][column] for column in order] for row in order]
    figure, (tree, cells) = stacked_panels([_TREE, heat_map_height(len(names))])
    _draw_tree(tree, data["links"], data["cut"], names)
    lowest = min(map(min, cosines))
    scale = (lowest, max(1e-9 + lowest, *off_diagonal(cosines)))
    draw_heat_map(cells, names, cosines, scale, two_decimals)
    faint, full = map(two_decimals, scale)
    cells.set_title(f"cosine of task vectors: {faint} (faint) to {full} (full)")
    return figure


def _draw_tree(
    axes: Axes, links: Sequence[Sequence[float]], cut: float, names: Sequence[str]
) -> None:
    tree = dendrogram(np.array(links), no_plot=True)
    for across, up in zip(tree["icoord"], tree["dcoord"], strict=True):
        # Leaf i is at 5 + 10 i in scipy's units, at i in ours.
        places = [(x - _APART / 2) / _APART for x in across]
        axes.plot(places, up, color=SOUPS[0], linewidth=1.2, gid=tip(f"joined at {up[1]:.2f}"))
    axes.axhline(cut, color=INK, linewidth=0.8, linestyle="--")
    axes.text(len(names) - 0.5, cut, f" cut {cut:g}", va="center", fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(0, 1.05 * max(cut, *(link[2] for link in links)))
    axes.set_xticks([])
    axes.grid(visible=False, axis="x")
    axes.set_title("mean 1 \N{MINUS SIGN} cosine between the clusters that are joined")
