"""Score of averages of ingredients by their number, of all runs in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit
from stockpot.reporting.compare.runs import Run, unit_of_runs
from stockpot.reporting.plots.axes import legend_below, mark, new_figure, score_axis
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import merged_look, shorten

_TITLES = {"val": "on val", "val_shift": "on val shifts (mean)"}


@plot(
    title="Soup size",
    caption=(
        "Expected val score of a soup by its number of ingredients, over random orders. A "
        "higher curve has better ingredients; one that still rises gains from training more."
    ),
    description="Mean score of averages of 1, 2, 3 and more ingredients, one curve per run.",
    left_out="Left out: no run has the diagnostic soup_size.",
)
def run_soup_sizes(runs: Sequence[Run]) -> Figure | None:
    """Draw one panel per set of examples and one curve per run; None without the diagnostic."""
    curves = {number: _curves(run) for number, run in enumerate(runs)}
    places = [place for place in _TITLES if any(place in of_run for of_run in curves.values())]
    if not places:
        return None
    unit = unit_of_runs(runs)
    figure = new_figure(3.6)
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    for axes, place in zip(panels, places, strict=True):
        for number, of_run in curves.items():
            if place in of_run:
                _draw(axes, (number, runs[number]), of_run[place]["mean"], unit)
        axes.set_title(_TITLES[place])
        axes.set_xlabel("number of ingredients")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        score_axis(axes.yaxis, unit)
    panels[0].set_ylabel(f"{unit.metric} of the average")
    legend_below(figure, panels[0])
    return figure


def _curves(run: Run) -> Mapping[str, Any]:
    data = run.results.diagnostics.get("soup_size", {"data": {}})["data"]
    curves: Mapping[str, Any] = data.get("curves", {})
    return curves


def _draw(axes: Axes, numbered: tuple[int, Run], means: Sequence[float], unit: Unit) -> None:
    number, run = numbered
    look = merged_look(number)
    sizes = range(1, len(means) + 1)
    axes.plot(sizes, means, color=look[0], linewidth=1.2)
    for size, score in zip(sizes, means, strict=True):
        note = f"{run.label}: {size} ingredients {unit.score(score)}"
        mark(axes, (size, score), look, 4.5, note, label=shorten(run.label))
