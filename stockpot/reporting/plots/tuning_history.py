"""A search for coefficients: the score of each trial and the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import (
    legend_below,
    limits,
    mark,
    new_figure,
    score_axis,
    without_worst,
)
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.svg import INK, QUIET, SOUPS
from stockpot.reporting.results import ModelEntry, Results, objective_values
from stockpot.reporting.words.objectives import better, objective_label, objective_unit

# Sources of trials that the search itself proposed; all others are warm starts.
_PROPOSED = {"sampler": "sampled", "epoch": "epoch"}
_LOOKS = {
    **dict.fromkeys(_PROPOSED, (QUIET, "o")),
    "uniform": (SOUPS[0], "s"),
    "greedy": (SOUPS[1], "^"),
    "best single": (INK, "D"),
}
_OTHER_LOOK = (SOUPS[3], "P")


@plot(
    title="Tuning history",
    caption="Scores on val, not on test. Larger marks are the warm starts.",
    description=(
        "Score of each trial in order; the line is the best so far, larger marks are the "
        "warm starts."
    ),
    left_out="Left out: no coefficients were tuned.",
)
def tuning_history(study: ModelEntry, results: Results) -> Figure | None:
    """Draw one panel per objective, warm starts marked; None without trials.

    Args:
        study: from the tune manifest.
        results: the run, for the unit of the scores.
    """
    if not study["trials"]:
        return None
    objectives = study["recipe"]["objectives"]
    figure = new_figure(1.0 + 2.3 * len(objectives))
    panels = figure.subplots(len(objectives), 1, sharex=True, squeeze=False)[:, 0]
    for axes, objective in zip(panels, objectives, strict=True):
        unit = objective_unit(objective, results)
        _draw_panel(axes, study, objective, unit)
        axes.set_ylabel(objective_label(objective, results.unit.metric))
        score_axis(axes.yaxis, unit)
    panels[-1].set_xlabel("trial")
    legend_below(figure, panels[0])
    return figure


def _draw_panel(axes: Axes, study: ModelEntry, objective: str, unit: Unit) -> None:
    trials = [
        (trial["number"], trial["source"], objective_values(study, trial["values"])[objective])
        for trial in study["trials"]
    ]
    numbers, sources, values = zip(*trials, strict=True)
    starts = [value for _, source, value in trials if source not in _PROPOSED]
    axes.set_ylim(*limits([*starts, *without_worst(values, objective)]))
    best = [*accumulate(values, better(objective))]
    axes.step(numbers, best, where="post", color=INK, linewidth=1.2, label="best so far")
    # The warm starts come last, so that they lie on top.
    for source in dict.fromkeys([*_PROPOSED, *sources]):
        own = {number: value for number, of, value in trials if of == source}
        _draw_trials(axes, source, own, unit)


def _draw_trials(axes: Axes, source: str, values: Mapping[int, float], unit: Unit) -> None:
    """Draw the trials of one source; those outside of the axis are counted in the legend."""
    bottom, top = axes.get_ylim()
    inside = {number: value for number, value in values.items() if bottom <= value <= top}
    where = "below" if any(value < bottom for value in values.values()) else "above"
    outside = f" ({len(values) - len(inside)} {where})" if len(inside) < len(values) else ""
    label = f"{_PROPOSED.get(source, f'start: {source}')}{outside}"
    look, size = _LOOKS.get(source, _OTHER_LOOK), 4 if source in _PROPOSED else 8
    for number, value in inside.items():
        note = f"trial {number}, {source}: {unit.score(value)}"
        mark(axes, (number, value), look, size, note, label=label)
