"""The score of a mean of ingredients by their number, of all runs in one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit
from stockpot.reporting.compare.runs import Run, unit_of_runs
from stockpot.reporting.plots.axes import legend_below, new_figure, score_axis
from stockpot.reporting.plots.series import merged_look, shorten
from stockpot.reporting.plots.svg import house_style, tip, to_svg

_TITLES = {"val": "on val", "val_shift": "on val shifts (mean)"}


def run_soup_sizes(runs: Sequence[Run]) -> str | None:
    """Draw a panel a set of examples and a curve a run; None where no run looked at soup sizes."""
    curves = {number: _curves(run) for number, run in enumerate(runs)}
    places = [place for place in _TITLES if any(place in of_run for of_run in curves.values())]
    if not places:
        return None
    unit = unit_of_runs(runs)
    with house_style():
        figure = new_figure(3.6)
        panels = figure.subplots(1, len(places), squeeze=False)[0]
        for axes, place in zip(panels, places, strict=True):
            for number, of_run in curves.items():
                if place in of_run:
                    _draw(axes, (number, runs[number]), of_run[place]["mean"], unit)
            axes.set_title(_TITLES[place])
            axes.set_xlabel("ingredients in the mean")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            score_axis(axes.yaxis, unit)
        panels[0].set_ylabel(f"{unit.metric} of the mean")
        legend_below(figure, panels[0])
        return to_svg(
            figure,
            "run-soup-sizes",
            "Score by number of ingredients",
            "Mean score of averages of 1, 2, 3 and more ingredients, a curve a run.",
        )


def _curves(run: Run) -> Mapping[str, Any]:
    data = run.results.diagnostics.get("soup_size", {"data": {}})["data"]
    curves: Mapping[str, Any] = data.get("curves", {})
    return curves


def _draw(axes: Axes, numbered: tuple[int, Run], means: Sequence[float], unit: Unit) -> None:
    number, run = numbered
    colour, marker = merged_look(number)
    sizes = range(1, len(means) + 1)
    axes.plot(sizes, means, color=colour, linewidth=1.2)
    for size, score in zip(sizes, means, strict=True):
        text = tip(f"{run.label}: {size} ingredients {unit.score(score)}")
        label = shorten(run.label) if size == 1 else ""
        axes.plot(size, score, marker, color=colour, markersize=4.5, gid=text, label=label)
