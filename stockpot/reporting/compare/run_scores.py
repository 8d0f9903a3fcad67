"""The best soup of each run, on test and under shift, with its interval."""

from __future__ import annotations

from matplotlib.figure import Figure

from stockpot.reporting.compare.run_series import run_series
from stockpot.reporting.compare.runs import Runs
from stockpot.reporting.plots.axes import draw_interval, mark, row_panels, score_axis
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.words.comparisons import TITLES


@plot(
    title="Best soups",
    caption=(
        "The best soup on val of each run, with the confidence interval of its score. "
        "Overlapping intervals do not exclude a difference: the paired tests "
        "above are more sensitive."
    ),
    description="Scores with intervals, one row per run: its best soup on val.",
)
def run_scores(compared: Runs) -> Figure:
    """Draw one row per run; one panel for shift, if there are test shifts, and one for test."""
    runs = compared.runs
    shown = [place for place in TITLES if any(run.score(place) for run in runs)]
    series, unit = run_series(runs), compared.unit
    figure, panels = row_panels(series, [TITLES[place] for place in shown], unit.metric)
    for axes, place in zip(panels, shown, strict=True):
        for row, (run, one) in enumerate(zip(runs, series, strict=True)):
            if (score := run.score(place)) is not None:
                draw_interval(axes, row, score, one.colour)
                note = f"{one.model['name']}: {unit.score(score.value)}"
                mark(axes, (score.value, row), one.look, 8, note)
        score_axis(axes.xaxis, unit, max_intervals=4)
    return figure
