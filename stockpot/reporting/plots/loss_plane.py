"""Contours of the loss on the plane through three models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import mark, one_panel
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import BASE, INK, QUIET, SOUPS

_LEVELS = 8
_FULL = 0.6  # opacity at or above the last level
_LOWEST = 1e-6  # nats: the scale is logarithmic
_LOOKS = {"base": (BASE, "s"), "ingredient": (QUIET, "."), "soup": (SOUPS[1], "^")}


@plot(
    title="Loss plane",
    caption=(
        "Val loss on the plane through three models; the small marks are the other models, "
        "projected onto it. Averaging works if one valley holds all models, and fails across "
        "a ridge between them."
    ),
    description=(
        "Contours of the loss on the plane through three models, which are named; small "
        "marks are the projections of the others."
    ),
)
def loss_plane(data: Mapping[str, Any]) -> Figure:
    """Draw the contours, the three models and the projections of all others.

    Args:
        data: of the finding `loss_plane`.
    """
    figure, axes = one_panel(4.6)
    _draw_contours(axes, data)
    for model in data["models"]:
        _draw_model(axes, model, is_corner=model["name"] in data["corners"])
    x, y = data["x"], data["y"]
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), aspect="equal")
    axes.grid(visible=False)
    axes.set_xlabel("distance in weight space; fainter is a lower loss on val")
    return figure


def _draw_contours(axes: Axes, data: Mapping[str, Any]) -> None:
    losses = np.maximum(np.array(data["losses"]), _LOWEST)
    low, high = float(losses.min()), float(np.quantile(losses, 0.95))
    if high <= low:
        return
    levels = np.geomspace(low, high, _LEVELS)
    shades = [to_rgba(SOUPS[0], _FULL * number / _LEVELS) for number in range(_LEVELS)]
    axes.contourf(data["x"], data["y"], losses, levels, colors=shades, extend="max")
    lines = axes.contour(data["x"], data["y"], losses, levels[1:], colors=QUIET, linewidths=0.6)
    axes.clabel(lines, fmt=lambda value: f"{value:.2g}", fontsize=8, colors=INK)


def _draw_model(axes: Axes, model: Mapping[str, Any], *, is_corner: bool) -> None:
    colour, marker = _LOOKS["soup" if model["kind"] == "tuned" else model["kind"]]
    if is_corner:
        colour, marker = INK, "D" if model["kind"] == "ingredient" else marker
    distance = "" if is_corner else f", {model['off']:.3g} off the plane"
    note = f"{model['name']}: loss {model['loss']:.3g}{distance}"
    mark(axes, (model["x"], model["y"]), (colour, marker), 7 if is_corner else 5, note)
    if is_corner:
        axes.annotate(
            shorten(model["name"], 18),
            (model["x"], model["y"]),
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=9,
        )
