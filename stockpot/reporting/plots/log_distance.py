"""Distance of weights from their start, on a logarithmic axis of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import legend_right, mark, one_panel
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.svg import INK, QUIET

_MOST_MARKS = 400  # further runs are drawn as lines alone


@plot(
    title="Distance along a run",
    caption=(
        "How far each run's weights are from their start after so many steps. On a logarithmic "
        "axis a straight line is a walk that slows down: ten times as many steps always add the "
        "same distance."
    ),
    description=(
        "Distance from the start against the number of steps on a logarithmic axis, with the "
        "fitted line of each run."
    ),
)
def log_distance(data: Mapping[str, Any]) -> Figure:
    """Draw the points and the fitted line of each run.

    Args:
        data: of the finding `log_distance`.
    """
    figure, axes = one_panel(3.6)
    left = _MOST_MARKS
    for run in data["runs"]:
        colour = INK if run["name"] == "base" else QUIET
        left -= len(run["points"])
        _draw(axes, run, colour, with_marks=left >= 0)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="steps", ylabel="distance from the start")
    legend_right(axes)
    return figure


def _draw(axes: Axes, run: Mapping[str, Any], colour: str, *, with_marks: bool) -> None:
    label = "base" if run["name"] == "base" else "ingredients"
    for steps, distance in run["points"] if with_marks else ():
        note = f"{run['name']}, {steps} steps: {distance:.4g}"
        mark(axes, (steps, distance), (colour, "o"), 3.5, note, label=label)
    ends = max(1, run["first"]), run["points"][-1][0]
    heights = [run["intercept"] + run["slope"] * math.log(steps) for steps in ends]
    axes.plot(ends, heights, color=colour, linewidth=1, label=f"fit of {label}")
