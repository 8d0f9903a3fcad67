"""Score of averages of ingredients by their number, of all runs in one plot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.compare.run_series import run_series
from stockpot.reporting.compare.runs import Runs
from stockpot.reporting.plots.axes import legend_below, mark
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import VAL_PLACES, Series
from stockpot.reporting.plots.soup_size import size_panels


@plot(
    title="Soup size",
    caption=(
        "Expected val score of a soup by its number of ingredients, over random orders. A "
        "higher curve has better ingredients; one that still rises gains from training more."
    ),
    description="Mean score of averages of 1, 2, 3 and more ingredients, one curve per run.",
    left_out="Left out: no run has the diagnostic soup_size.",
)
def run_soup_sizes(compared: Runs) -> Figure | None:
    """Draw one panel per set of examples and one curve per run; None without the diagnostic."""
    runs = compared.runs
    found = [run.results.diagnostics.get("soup_size", {"data": {}})["data"] for run in runs]
    curves = [data.get("curves", {}) for data in found]
    places = [place for place in VAL_PLACES if any(place in of_run for of_run in curves)]
    if not places:
        return None
    titles = [VAL_PLACES[place][0] for place in places]
    figure, panels = size_panels(3.6, titles, compared.unit)
    for axes, place in zip(panels, places, strict=True):
        for run, series, of_run in zip(runs, run_series(runs), curves, strict=True):
            if place in of_run:
                _draw(axes, series, run.label, of_run[place]["mean"], compared.unit)
    legend_below(figure, panels[0])
    return figure


def _draw(axes: Axes, series: Series, run: str, means: Sequence[float], unit: Unit) -> None:
    sizes = range(1, len(means) + 1)
    axes.plot(sizes, means, color=series.colour, linewidth=1.2)
    for size, score in zip(sizes, means, strict=True):
        note = f"{run}: {size} ingredients {unit.score(score)}"
        mark(axes, (size, score), series.look, 4.5, note, label=series.label)
