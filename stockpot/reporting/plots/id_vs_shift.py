"""Score on test against mean score under shift, for all models."""

from __future__ import annotations

from statistics import NormalDist

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import (
    error_lengths,
    interval_ends,
    legend_below,
    limits,
    mark,
    new_figure,
    score_axis,
)
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import QUIET
from stockpot.reporting.results import Manifest, ModelEntry, models_of
from stockpot.reporting.words.estimates import Estimate, estimate_of
from stockpot.reporting.words.units import unit_of

Point = tuple[Estimate, Estimate]


@plot(
    title="Test against shift",
    caption=(
        "Up and to the right is better. Crosses are the intervals of the main models. A soup "
        "above the ingredients, or above the dashed line fitted to them, loses less of its "
        "score under shift than they do."
    ),
    description="Scatter plot of all models: score on test against mean score under shift.",
    left_out="Left out: the experiment has no test shifts.",
)
def id_vs_shift(evaluation: Manifest) -> Figure | None:
    """Draw one point per model; None without test shifts.

    The axes are those of the other models: a base far below them lies outside.
    """
    if not evaluation["test_shifts"]:
        return None
    figure = new_figure(4.6)
    axes = figure.add_subplot()
    unit = unit_of(evaluation)
    metric = unit.metric
    others = [model for model in evaluation["models"] if model["kind"] != "base"]
    _zoom(axes, [_point(model, metric) for model in others])
    _draw_ingredients(axes, models_of(evaluation, "ingredient"), evaluation)
    _draw_line(axes, evaluation)
    for series in main_series(evaluation):
        _draw(axes, series, _point(series.model, metric), unit)
    axes.set(xlabel=f"{metric} on test", ylabel=f"mean {metric} under shift")
    score_axis(axes.xaxis, unit)
    score_axis(axes.yaxis, unit)
    legend_below(figure, axes)
    return figure


def _point(model: ModelEntry, metric: str) -> Point:
    metrics = model["metrics"]
    return estimate_of(metrics, f"test/{metric}"), estimate_of(metrics, f"shift/mean/{metric}")


def _zoom(axes: Axes, points: list[Point]) -> None:
    axes.set_xlim(*limits([end for test, _ in points for end in interval_ends(test)]))
    axes.set_ylim(*limits([end for _, shift in points for end in interval_ends(shift)]))


def _draw_ingredients(axes: Axes, ingredients: list[ModelEntry], evaluation: Manifest) -> None:
    others = [m for m in ingredients if m["name"] != evaluation["best_ingredient"]]
    unit = unit_of(evaluation)
    for model in others:
        test, shift = _point(model, evaluation["metric"])
        note = f"{model['name']}: {_where(test, shift, unit)}"
        point = (test.value, shift.value)
        mark(axes, point, (QUIET, "o"), 4.5, note, label="other ingredients")


def _draw_line(axes: Axes, evaluation: Manifest) -> None:
    """Draw the line fitted to the ingredients on probit scales, if one was fitted.

    Source: Taori et al. 2020, https://arxiv.org/abs/2007.00644, effective robustness.
    """
    fitted = evaluation.get("effective_robustness") or {}
    if "slope" not in fitted:
        return
    normal = NormalDist()
    left, right = axes.get_xlim()
    steps = [left + (right - left) * step / 40 for step in range(41)]
    tests = [test for test in steps if 0 < test < 1]
    shifts = [
        normal.cdf(fitted["slope"] * normal.inv_cdf(test) + fitted["intercept"]) for test in tests
    ]
    label = "fit to the ingredients"
    axes.plot(tests, shifts, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)), label=label)


def _where(test: Estimate, shift: Estimate, unit: Unit) -> str:
    return f"test {unit.score(test.value)}, shift {unit.score(shift.value)}"


def _draw(axes: Axes, series: Series, point: Point, unit: Unit) -> None:
    test, shift = point
    inside = axes.get_xlim()[0] <= test.value and axes.get_ylim()[0] <= shift.value
    label = series.label if inside else f"{series.label} (outside)"
    axes.errorbar(
        test.value,
        shift.value,
        xerr=error_lengths([test]),
        yerr=error_lengths([shift]),
        fmt="none",
        ecolor=series.colour,
        elinewidth=1,
        alpha=0.45,
    )
    note = f"{series.model['name']}: {_where(test, shift, unit)}"
    mark(axes, (test.value, shift.value), series.look, 8, note, label=label)
