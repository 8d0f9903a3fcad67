"""Bars a test shift: the best soup of each run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from stockpot.metric_units import Unit
from stockpot.reporting.compare.runs import Run, mark, unit_of_runs
from stockpot.reporting.plots.axes import (
    WIDTH,
    error_lengths,
    legend_below,
    new_figure,
    score_axis,
)
from stockpot.reporting.plots.series import merged_look, shorten
from stockpot.reporting.plots.svg import INK, house_style, tip, to_svg
from stockpot.reporting.words.estimates import estimate_of

_GROUP_WIDTH = 0.84  # of the distance between two groups


def run_shifts(runs: Sequence[Run]) -> str | None:
    """Draw a group of bars for each test shift that all runs have; None where there is none."""
    of_runs = [run.results.evaluation["test_shifts"] for run in runs]
    groups = [shift for shift in of_runs[0] if all(shift in shifts for shifts in of_runs)]
    if not groups:
        return None
    unit = unit_of_runs(runs)
    with house_style():
        figure = new_figure(3.9, max(WIDTH, 0.09 * len(groups) * len(runs) + 1.5))
        axes = figure.add_subplot()
        for number, run in enumerate(runs):
            offset = ((number + 0.5) / len(runs) - 0.5) * _GROUP_WIDTH
            place = (offset, _GROUP_WIDTH / len(runs))
            _draw(axes, (number, run), groups, place, unit)
        axes.set_xticks(range(len(groups)), [shorten(group, 14) for group in groups])
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(unit.metric)
        score_axis(axes.yaxis, unit)
        legend_below(figure, axes)
        return to_svg(
            figure,
            "run-shifts",
            "Scores by shift",
            "Grouped bars with intervals: one group a test shift, one bar a run, in the order of "
            "the legend.",
        )


def _draw(
    axes: Axes,
    numbered: tuple[int, Run],
    groups: Sequence[str],
    place: tuple[float, float],
    unit: Unit,
) -> None:
    (number, run), (offset, width) = numbered, place
    scores = [estimate_of(run.best["metrics"], f"shift/{group}/{unit.metric}") for group in groups]
    positions = [group + offset for group in range(len(groups))]
    values = [score.value for score in scores]
    colour, _ = merged_look(number)
    bars = axes.bar(positions, values, 0.92 * width, color=colour, label=shorten(run.label))
    for bar, group, value in zip(bars, groups, values, strict=True):
        bar.set_gid(tip(f"{mark(run, run.best['name'])}: {group} {unit.score(value)}"))
    lengths = error_lengths(scores)
    axes.errorbar(positions, values, yerr=lengths, fmt="none", ecolor=INK, elinewidth=0.9)
