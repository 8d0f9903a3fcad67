"""What greedy selection tried, in order: the val score of each candidate soup."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import legend_below, limits, new_figure, score_axis
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import QUIET, SOUPS, house_style, tip, to_svg
from stockpot.reporting.results import Model

Step = dict[str, Any]

_MAX_NAMES = 24  # of all steps; where there are more, only the accepted ones are named


def greedy_path(soup: Model, unit: Unit, number: int = 1) -> str | None:
    """Draw the steps of one greedy soup; None for a soup that was not made in steps.

    Args:
        soup: from the soups manifest.
        unit: of the metric that its scores are of.
        number: tells several greedy soups of one page apart.
    """
    if not soup["steps"]:
        return None
    with house_style():
        figure = new_figure(3.9)
        axes = figure.add_subplot()
        _draw(axes, soup["steps"], unit)
        axes.set_ylabel(f"{unit.metric} on val of the candidate")
        score_axis(axes.yaxis, unit)
        legend_below(figure, axes)
        return to_svg(
            figure,
            f"greedy-{number}",
            f"Path of {soup['name']}",
            f"{unit.metric} on val by step: filled points were kept in the soup, crosses were "
            "not; the line is the best so far.",
        )


def _draw(axes: Axes, steps: list[Step], unit: Unit) -> None:
    positions = range(1, len(steps) + 1)
    best = [step["best"] for step in steps]
    axes.step(positions, best, where="post", color=SOUPS[0], linewidth=1.2, label="soup so far")
    looks = {True: ("o", SOUPS[0], "accepted"), False: ("x", QUIET, "rejected")}
    for accepted, (marker, colour, label) in looks.items():
        numbered = zip(positions, steps, strict=True)
        shown = [(number, step) for number, step in numbered if step["accepted"] is accepted]
        for place, (position, step) in enumerate(shown):
            axes.plot(
                position,
                step["score"],
                marker,
                color=colour,
                markersize=7,
                markeredgewidth=1.8,
                label="" if place else label,
                gid=tip(f"{step['ingredient']}: {unit.score(step['score'])}, {label}"),
            )
    named = [
        (position, shorten(step["ingredient"], 18))
        for position, step in zip(positions, steps, strict=True)
        if step["accepted"] or len(steps) <= _MAX_NAMES
    ]
    ticks, names = zip(*named, strict=True)
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8.5)
    axes.set_ylim(*limits([*best, *(step["score"] for step in steps)]))
    axes.grid(visible=False, axis="x")
