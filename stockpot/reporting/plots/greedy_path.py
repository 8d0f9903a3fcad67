"""Steps of greedy selection: the val score of each candidate soup."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import Look, legend_below, limits, mark, one_panel, score_axis
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import QUIET, SOUPS
from stockpot.reporting.results import ModelEntry, Results

_ACCEPTED, _REJECTED = ("accepted", (SOUPS[0], "o")), ("rejected", (QUIET, "x"))
_STOPPED = ("rejected, at most", (QUIET, "v"))
_MAX_NAMES = 24  # with more steps, only the accepted ones are named


@plot(
    title="Greedy selection",
    caption=(
        "Ingredients are tried one by one, the best on val first, and then in the order of their "
        "val score or, in a diverse greedy soup, of their difference from it. An ingredient is "
        "accepted if the soup with it scores at least as well on val. An evaluation stops as soon "
        "as this is known to fail, and the plot then shows the most that the score can be."
    ),
    description=(
        "Score on val by step: filled marks were accepted, crosses were rejected, "
        "triangles are upper bounds of scores that were rejected; the "
        "line is the best score so far."
    ),
    left_out="Left out: no soup was selected greedily.",
)
def greedy_path(soup: ModelEntry, results: Results) -> Figure | None:
    """Draw the steps of one greedy soup; None for a soup without steps.

    Args:
        soup: from the soups manifest.
        results: the run, for the unit of the scores.
    """
    if not soup["steps"]:
        return None
    unit = results.unit
    figure, axes = one_panel(3.9)
    _draw(axes, soup["steps"], unit)
    axes.set_ylabel(f"{unit.metric} of the candidate on val")
    score_axis(axes.yaxis, unit)
    legend_below(figure, axes)
    return figure


def _draw(axes: Axes, steps: list[ModelEntry], unit: Unit) -> None:
    numbered = dict(enumerate(steps, start=1))
    best = [step["best"] for step in steps]
    axes.step([*numbered], best, where="post", color=SOUPS[0], linewidth=1.2, label="soup so far")
    # All accepted steps come first, as in the legend.
    for position, step in sorted(numbered.items(), key=lambda item: not item[1]["accepted"]):
        label, look = _look(step)
        note = f"{step['ingredient']}: {_known(step, unit)}, {label.partition(',')[0]}"
        mark(axes, (position, _height(step)), look, 7, note, label=label, markeredgewidth=1.8)
    named = [
        (position, shorten(step["ingredient"], 18))
        for position, step in numbered.items()
        if step["accepted"] or len(steps) <= _MAX_NAMES
    ]
    ticks, names = zip(*named, strict=True)
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8.5)
    axes.set_ylim(*limits([*best, *map(_height, steps)]))
    axes.grid(visible=False, axis="x")


def _look(step: ModelEntry) -> tuple[str, Look]:
    """Return the label and the marker of a step."""
    if step["accepted"]:
        return _ACCEPTED
    return _STOPPED if "stopped" in step else _REJECTED


def _height(step: ModelEntry) -> float:
    """Return the score of a step, or the most that it can be."""
    height: float = step["stopped"]["at_most"] if "stopped" in step else step["score"]
    return height


def _known(step: ModelEntry, unit: Unit) -> str:
    """Say what is known of a step's score."""
    if "stopped" not in step:
        return unit.score(step["score"])
    known = step["stopped"]
    reason = "" if known["is_certain"] else " by a test"
    return (
        f"at most {unit.factor * known['at_most']:.6g}, stopped after {known['examples']} of "
        f"{known['of']} examples{reason}"
    )
