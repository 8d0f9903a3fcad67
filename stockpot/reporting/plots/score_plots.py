"""The plots of scores in the order of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockpot.reporting.pages import PageFigure
from stockpot.reporting.plots.calibration import calibration
from stockpot.reporting.plots.differences import differences
from stockpot.reporting.plots.greedy_path import greedy_path
from stockpot.reporting.plots.id_vs_shift import id_vs_shift
from stockpot.reporting.plots.pareto_front import pareto_front
from stockpot.reporting.plots.plot import Plot
from stockpot.reporting.plots.random_soups import random_soups
from stockpot.reporting.plots.reliability import reliability
from stockpot.reporting.plots.shifts import shifts
from stockpot.reporting.plots.tuning_history import tuning_history
from stockpot.reporting.plots.tuning_slices import tuning_slices
from stockpot.reporting.plots.wise_ft import wise_ft
from stockpot.reporting.results import ModelEntry, Results

_OF_EVALUATION = (differences, id_vs_shift, shifts, random_soups, wise_ft, reliability, calibration)


def score_figures(results: Results) -> Iterator[PageFigure]:
    """Draw the plots of the evaluation, of greedy soups and of studies."""
    for plot in _OF_EVALUATION:
        yield plot.figure(results.evaluation)
    yield from _figure_per_model(greedy_path, results.soups["soups"], results)
    yield from _figure_per_model(pareto_front, results.tune["tuned"], results)
    yield from _figure_per_model(tuning_history, results.tune["tuned"], results)
    yield from _figure_per_model(tuning_slices, results.tune["tuned"], results)


def _figure_per_model(
    plot: Plot[[ModelEntry, Results]], models: Sequence[ModelEntry], results: Results
) -> list[PageFigure]:
    drawn = [
        plot.figure_of(model["name"], number, model, results)
        for number, model in enumerate(models, start=1)
    ]
    shown = [figure for figure in drawn if figure.svg is not None]
    return shown or [PageFigure(plot.title, plot.left_out, None)]
