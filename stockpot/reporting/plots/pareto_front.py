"""A study with two objectives: val against val shifts, and the Pareto front of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import legend_below, mark, score_plane, without_lowest
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import INK, QUIET
from stockpot.reporting.results import ModelEntry, Results, objective_values

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

    The axes hold all compared models and most trials: bad trials may lie outside.

    Args:
        study: from the tune manifest.
        results: the run; its ingredients and soups are drawn for comparison.
    """
    if len(study["recipe"]["objectives"]) < 2:
        return None
    unit = results.unit
    places = (f"val/{unit.metric}", f"val_shift/mean/{unit.metric}")
    trials, front = (_points(study, study[name]) for name in ("trials", "front"))
    models = [*results.sweep["ingredients"], *results.merged]
    compared = [(model["scores"][places[0]], model["scores"][places[1]]) for model in models]
    x, y = (
        [*(point[side] for point in [*front, *compared]), *without_lowest(_columns(trials)[side])]
        for side in (0, 1)
    )
    labels = (f"{unit.metric} on val", f"mean {unit.metric} on val shifts")
    figure, axes = score_plane(unit, x, y, *labels)
    series = {one.model["name"]: one for one in main_series(results.evaluation)}
    for model, point in zip(models, compared, strict=True):
        _draw_model(axes, series.get(model["name"]), model, point, unit)
    _draw_trials(axes, trials)
    steps = _columns(sorted(front))
    axes.plot(*steps, color=INK, linewidth=1.2, drawstyle="steps-pre", zorder=1.8)
    label = f"front ({len(front)})"
    axes.plot(*_columns(front), "o", color=INK, markersize=4, zorder=1.9, label=label)
    legend_below(figure, axes)
    return figure


def _points(study: ModelEntry, trials: Sequence[ModelEntry]) -> list[Point]:
    values = [objective_values(study, trial["values"]) for trial in trials]
    return [(found["val"], found["val_shift"]) for found in values]


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _draw_trials(axes: Axes, trials: Sequence[Point]) -> None:
    (left, _), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    num_outside = sum(x < left or y < bottom for x, y in trials)
    outside = f", {num_outside} outside" if num_outside else ""
    label = f"trials ({len(trials)}{outside})"
    hollow: dict[str, Any] = {
        "markerfacecolor": "none",
        "markeredgecolor": QUIET,
        "markersize": 4.5,
    }
    axes.plot(*_columns(trials), "o", zorder=1.7, label=label, **hollow)


def _draw_model(
    axes: Axes, series: Series | None, model: ModelEntry, point: Point, unit: Unit
) -> None:
    note = f"{model['name']}: val {unit.score(point[0])}, val shifts {unit.score(point[1])}"
    if series is None or model["kind"] == "ingredient":
        mark(axes, point, (QUIET, "+"), 7, note, label="ingredients")
    else:
        mark(axes, point, series.look, 8, note, label=series.label)
