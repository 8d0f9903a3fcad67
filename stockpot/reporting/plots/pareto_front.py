"""A study with two objectives: val against val shifts, and the Pareto front of its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import (
    legend_below,
    limits,
    mark,
    new_figure,
    score_axis,
    without_lowest,
)
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import main_series
from stockpot.reporting.plots.svg import INK, QUIET
from stockpot.reporting.results import ModelEntry, Results, objective_values
from stockpot.reporting.words.units import unit_of

Point = tuple[float, float]


@plot(
    title="Pareto front",
    caption=(
        "Scores on val and val shifts, not on test. The line joins the trials that no other "
        "trial beats in both; below and to the left of it, some trial is at least as good in "
        "both."
    ),
    description=(
        "Scatter plot of trials: score on val against mean score on val shifts; the line "
        "joins the trials that no other trial beats in both."
    ),
    left_out="Left out: no study had two objectives.",
)
def pareto_front(study: ModelEntry, results: Results) -> Figure | None:
    """Draw trials, front, ingredients and soups; None for a study with one objective.

    Args:
        study: from the tune manifest.
        results: the run; its ingredients and soups are drawn for comparison.
    """
    if len(study["recipe"]["objectives"]) < 2:
        return None
    unit = unit_of(results.evaluation)
    metric = unit.metric
    trials = [_point(objective_values(study, trial["values"])) for trial in study["trials"]]
    front = [_point(objective_values(study, point["values"])) for point in study["front"]]
    figure = new_figure(4.6)
    axes = figure.add_subplot()
    compared = _draw_models(axes, results, unit)
    axes.set_xlim(*_zoom(trials, [*front, *compared], 0))
    axes.set_ylim(*_zoom(trials, [*front, *compared], 1))
    _draw_trials(axes, trials)
    line = _columns(sorted(front))
    axes.plot(*line, color=INK, linewidth=1.2, drawstyle="steps-pre", zorder=1.8)
    axes.plot(
        *_columns(front),
        "o",
        color=INK,
        markersize=4,
        zorder=1.9,
        label=f"front ({len(front)})",
    )
    axes.set(xlabel=f"{metric} on val", ylabel=f"mean {metric} on val shifts")
    score_axis(axes.xaxis, unit)
    score_axis(axes.yaxis, unit)
    legend_below(figure, axes)
    return figure


def _point(values: Mapping[str, float]) -> Point:
    return values["val"], values["val_shift"]


def _columns(points: Iterable[Point]) -> tuple[list[float], list[float]]:
    pairs = list(points)
    return [x for x, _ in pairs], [y for _, y in pairs]


def _zoom(trials: list[Point], compared: list[Point], place: int) -> tuple[float, float]:
    """Return limits around all compared models and most trials; bad trials may lie outside."""
    values = [trial[place] for trial in trials]
    return limits([*(point[place] for point in compared), *without_lowest(values)])


def _draw_trials(axes: Axes, trials: list[Point]) -> None:
    (left, _), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    num_outside = sum(x < left or y < bottom for x, y in trials)
    outside = f", {num_outside} outside" if num_outside else ""
    axes.plot(
        *_columns(trials),
        "o",
        markerfacecolor="none",
        markeredgecolor=QUIET,
        markersize=4.5,
        zorder=1.7,
        label=f"trials ({len(trials)}{outside})",
    )


def _draw_models(axes: Axes, results: Results, unit: Unit) -> list[Point]:
    """Draw all ingredients, and the soups in their own colours; return their points."""
    names = (f"val/{unit.metric}", f"val_shift/mean/{unit.metric}")
    known = {series.model["name"]: series for series in main_series(results.evaluation)}
    drawn = []
    for model in [*results.sweep["ingredients"], *results.merged]:
        point = (model["scores"][names[0]], model["scores"][names[1]])
        text = f"val {unit.score(point[0])}, val shifts {unit.score(point[1])}"
        note = f"{model['name']}: {text}"
        series = known.get(model["name"])
        if model["kind"] == "ingredient":
            mark(axes, point, (QUIET, "+"), 7, note, label="ingredients")
        elif series is not None:
            mark(axes, point, series.look, 8, note, label=series.label)
        drawn.append(point)
    return drawn
