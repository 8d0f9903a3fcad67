"""Bars a test shift: base, best ingredient, soups and ensemble."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import (
    WIDTH,
    error_lengths,
    legend_below,
    new_figure,
    score_axis,
)
from stockpot.reporting.plots.series import Series, main_series, shorten
from stockpot.reporting.plots.svg import INK, house_style, tip, to_svg
from stockpot.reporting.results import Manifest
from stockpot.reporting.words.estimates import estimate_of
from stockpot.reporting.words.units import unit_of

_GROUP_WIDTH = 0.84  # of the distance between two groups


def shifts(evaluation: Manifest) -> str | None:
    """Draw a group of bars a shift, and one for their mean; None without test shifts."""
    if not evaluation["test_shifts"]:
        return None
    groups = [*evaluation["test_shifts"]] + (["mean"] if len(evaluation["test_shifts"]) > 1 else [])
    series = _without_further_ensembles(main_series(evaluation))
    unit = unit_of(evaluation)
    with house_style():
        figure = new_figure(3.9, max(WIDTH, 0.09 * len(groups) * len(series) + 1.5))
        axes = figure.add_subplot()
        for place, one in enumerate(series):
            offset = ((place + 0.5) / len(series) - 0.5) * _GROUP_WIDTH
            _draw_bars(axes, one, groups, (offset, _GROUP_WIDTH / len(series)), unit)
        axes.set_xticks(range(len(groups)), [shorten(group, 14) for group in groups])
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(unit.metric)
        score_axis(axes.yaxis, unit)
        legend_below(figure, axes)
        return to_svg(
            figure,
            "shifts",
            "Scores by shift",
            "Grouped bars with intervals: one group a test shift, one bar a model, in the order "
            "of the legend.",
        )


def _without_further_ensembles(series: Sequence[Series]) -> list[Series]:
    """Keep one ensemble: bars of one colour could not be told apart."""
    ensembles = [one for one in series if one.model["kind"] in ("ensemble", "repeats")]
    return [one for one in series if one not in ensembles[1:]]


def _draw_bars(
    axes: Axes, series: Series, groups: Sequence[str], place: tuple[float, float], unit: Unit
) -> None:
    offset, width = place
    metrics = series.model["metrics"]
    scores = [estimate_of(metrics, f"shift/{group}/{unit.metric}") for group in groups]
    positions = [group + offset for group in range(len(groups))]
    values = [score.value for score in scores]
    bars = axes.bar(positions, values, 0.92 * width, color=series.colour, label=series.label)
    for bar, group, value in zip(bars, groups, values, strict=True):
        bar.set_gid(tip(f"{series.model['name']}: {group} {unit.score(value)}"))
    axes.errorbar(
        positions, values, yerr=error_lengths(scores), fmt="none", ecolor=INK, elinewidth=0.9
    )
