"""A study with several objectives: the first two, and the Pareto front of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import legend_below, mark, score_plane, without_worst
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import INK, QUIET
from stockpot.reporting.results import ModelEntry, Results, objective_values
from stockpot.reporting.words.objectives import (
    MINIMIZED,
    model_score,
    objective_label,
    objective_unit,
)

Point = tuple[float, float]


@plot(
    title="Pareto front",
    caption=(
        "Scores on val and val shifts, not on test. The line joins the trials that no other trial "
        "beats in all objectives. Of more than two objectives the first two are drawn."
    ),
    description=(
        "Scatter plot of trials: the first objective against the second; the line joins the trials "
        "that no other trial beats in all."
    ),
    left_out="Left out: no study had two objectives.",
)
def pareto_front(study: ModelEntry, results: Results) -> Figure | None:
    """Draw trials, front, ingredients and soups; None for a study with one objective.

    The axes hold all compared models and most trials: bad trials may lie outside.

    Args:
        study: from the tune manifest.
        results: the run; its ingredients and soups are drawn for comparison, if they were scored
            by both objectives.
    """
    objectives = study["recipe"]["objectives"]
    if len(objectives) < 2:
        return None
    first, second = objectives[:2]
    metric = results.unit.metric
    trials, front = (_points(study, study[name]) for name in ("trials", "front"))
    models = [*results.sweep["ingredients"], *results.merged]
    scored = [(m, [model_score(m, one, metric) for one in (first, second)]) for m in models]
    compared = [(m, (x, y)) for m, (x, y) in scored if x is not None and y is not None]
    held = [*front, *(point for _, point in compared)]
    x, y = (
        [*(point[side] for point in held), *without_worst(_columns(trials)[side], objective)]
        for side, objective in enumerate((first, second))
    )
    units = (objective_unit(first, results), objective_unit(second, results))
    labels = (objective_label(first, metric), objective_label(second, metric))
    figure, axes = score_plane(units, x, y, *labels)
    series = {one.model["name"]: one for one in main_series(results.evaluation)}
    for model, point in compared:
        values = zip((first, second), units, point, strict=True)
        note = ", ".join(f"{name} {unit.score(value)}" for name, unit, value in values)
        _draw_model(axes, series.get(model["name"]), model, point, note)
    _draw_trials(axes, trials)
    is_staircase = not {*objectives} & {*MINIMIZED} and len(objectives) == 2
    drawstyle: Literal["steps-pre", "default"] = "steps-pre" if is_staircase else "default"
    axes.plot(*_columns(sorted(front)), color=INK, linewidth=1.2, zorder=1.8, drawstyle=drawstyle)
    label = f"front ({len(front)})"
    axes.plot(*_columns(front), "o", color=INK, markersize=4, zorder=1.9, label=label)
    legend_below(figure, axes)
    return figure


def _points(study: ModelEntry, trials: Sequence[ModelEntry]) -> list[Point]:
    first, second = study["recipe"]["objectives"][:2]
    values = [objective_values(study, trial["values"]) for trial in trials]
    return [(found[first], found[second]) for found in values]


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _draw_trials(axes: Axes, trials: Sequence[Point]) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    num_outside = sum(not (left <= x <= right and bottom <= y <= top) for x, y in trials)
    outside = f", {num_outside} outside" if num_outside else ""
    label = f"trials ({len(trials)}{outside})"
    hollow: dict[str, Any] = {
        "markerfacecolor": "none",
        "markeredgecolor": QUIET,
        "markersize": 4.5,
    }
    axes.plot(*_columns(trials), "o", zorder=1.7, label=label, **hollow)


def _draw_model(
    axes: Axes, series: Series | None, model: ModelEntry, point: Point, scores: str
) -> None:
    note = f"{model['name']}: {scores.replace('_', ' ')}"
    if series is None or model["kind"] == "ingredient":
        mark(axes, point, (QUIET, "+"), 7, note, label="ingredients")
    else:
        mark(axes, point, series.look, 8, note, label=series.label)
