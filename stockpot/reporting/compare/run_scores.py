"""The best soup of each run, on test and under shift, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from stockpot.metric_units import Unit
from stockpot.reporting.compare.runs import Run, mark, unit_of_runs
from stockpot.reporting.plots.axes import error_lengths, new_figure, score_axis
from stockpot.reporting.plots.series import merged_look, shorten
from stockpot.reporting.plots.svg import house_style, tip, to_svg
from stockpot.reporting.words.comparisons import SHIFT, TEST
from stockpot.reporting.words.estimates import Estimate

_TITLES = {SHIFT: "under shift (mean)", TEST: "on test"}


def run_scores(runs: Sequence[Run]) -> str:
    """Draw a row a run and a panel for shift, where there are test shifts, and for test."""
    shown = [place for place in _TITLES if any(run.score(place) for run in runs)]
    unit = unit_of_runs(runs)
    with house_style():
        figure = new_figure(1.1 + 0.36 * len(runs))
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, place in zip(panels, shown, strict=True):
            for row, run in enumerate(runs):
                score = run.score(place)
                if score is not None:
                    _draw(axes, row, run, score, unit)
            axes.set_title(_TITLES[place])
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            score_axis(axes.xaxis, unit, max_intervals=4)
        panels[0].set_yticks(range(len(runs)), [shorten(run.label) for run in runs])
        panels[0].set_ylim(len(runs) - 0.5, -0.5)
        figure.supxlabel(unit.metric, fontsize=10)
        return to_svg(
            figure,
            "run-scores",
            "Best soups of the runs",
            "Scores with intervals, a row a run: its best soup on val.",
        )


def _draw(axes: Axes, row: int, run: Run, score: Estimate, unit: Unit) -> None:
    colour, marker = merged_look(row)
    lengths = [[length[0]] for length in error_lengths([score])]
    axes.errorbar(score.value, row, xerr=lengths, fmt="none", ecolor=colour, elinewidth=2.2)
    text = tip(f"{mark(run, run.best['name'])}: {unit.score(score.value)}")
    axes.plot(score.value, row, marker, color=colour, markersize=8, gid=text)
