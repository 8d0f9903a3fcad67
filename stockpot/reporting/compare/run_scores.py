"""The best soup of each run, on test and under shift, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from stockpot.reporting.compare.runs import Run, model_label, unit_of_runs
from stockpot.reporting.plots.axes import draw_interval, mark, row_panels, score_axis
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import merged_look, shorten
from stockpot.reporting.words.comparisons import SHIFT, TEST

_TITLES = {SHIFT: "under shift (mean)", TEST: "on test"}


@plot(
    title="Best soups",
    caption=(
        "The best soup on val of each run, with the confidence interval of its score. "
        "Overlapping intervals do not mean that there is no difference: the paired tests "
        "above are more sensitive."
    ),
    description="Scores with intervals, one row per run: its best soup on val.",
)
def run_scores(runs: Sequence[Run]) -> Figure:
    """Draw one row per run; one panel for shift, if there are test shifts, and one for test."""
    shown = [place for place in _TITLES if any(run.score(place) for run in runs)]
    unit = unit_of_runs(runs)
    labels, titles = [shorten(run.label) for run in runs], [_TITLES[place] for place in shown]
    figure, panels = row_panels(labels, titles, 0.36)
    for axes, place in zip(panels, shown, strict=True):
        for row, run in enumerate(runs):
            score = run.score(place)
            if score is not None:
                look = merged_look(row)
                draw_interval(axes, row, score, look[0])
                note = f"{model_label(run, run.best['name'])}: {unit.score(score.value)}"
                mark(axes, (score.value, row), look, 8, note)
        score_axis(axes.xaxis, unit, max_intervals=4)
    figure.supxlabel(unit.metric, fontsize=10)
    return figure
