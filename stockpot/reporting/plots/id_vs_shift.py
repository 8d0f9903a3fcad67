"""Score on test against mean score under shift, for all models."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import (
    Look,
    error_lengths,
    interval_ends,
    legend_below,
    mark,
    score_plane,
)
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import QUIET
from stockpot.reporting.results import Manifest, ModelEntry, models_of, unit_of
from stockpot.reporting.words.estimates import Estimate, estimate_of


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
    unit, best = unit_of(evaluation), evaluation["best_ingredient"]
    others = [_point(m, unit.metric) for m in evaluation["models"] if m["kind"] != "base"]
    x, y = ([end for point in others for end in interval_ends(point[side])] for side in (0, 1))
    labels = (f"{unit.metric} on test", f"mean {unit.metric} under shift")
    figure, axes = score_plane((unit, unit), x, y, *labels)
    for model in models_of(evaluation, "ingredient"):
        if model["name"] != best:
            _mark(axes, model, (QUIET, "o"), 4.5, "other ingredients", unit)
    _draw_line(axes, evaluation)
    for series in main_series(evaluation):
        _draw(axes, series, unit)
    legend_below(figure, axes)
    return figure


def _point(model: ModelEntry, metric: str) -> tuple[Estimate, Estimate]:
    metrics = model["metrics"]
    return estimate_of(metrics, f"test/{metric}"), estimate_of(metrics, f"shift/mean/{metric}")


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


def _draw(axes: Axes, series: Series, unit: Unit) -> None:
    test, shift = _point(series.model, unit.metric)
    inside = axes.get_xlim()[0] <= test.value and axes.get_ylim()[0] <= shift.value
    label = series.label if inside else f"{series.label} (outside)"
    lengths = (error_lengths([shift]), error_lengths([test]))
    looks: dict[str, Any] = {"ecolor": series.colour, "elinewidth": 1, "alpha": 0.45}
    axes.errorbar(test.value, shift.value, *lengths, fmt="none", **looks)
    _mark(axes, series.model, series.look, 8, label, unit)


def _mark(axes: Axes, model: ModelEntry, look: Look, size: float, label: str, unit: Unit) -> None:
    test, shift = _point(model, unit.metric)
    note = f"{model['name']}: test {unit.score(test.value)}, shift {unit.score(shift.value)}"
    mark(axes, (test.value, shift.value), look, size, note, label=label)
