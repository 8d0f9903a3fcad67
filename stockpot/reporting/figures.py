"""The figures of the report with their captions, and the sentence where one is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stockpot.reporting.results import Manifest, Results
from stockpot.reporting.words.units import unit_of


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of the page, or the sentence that stands in its place."""

    title: str
    caption: str
    svg: str | None


def score_plots(results: Results) -> list[Plot]:
    """Draw what the evaluation found, in reading order."""
    evaluation = results.evaluation
    return [
        *_evaluation_plots(evaluation),
        *_greedy_plots(results),
        *_pareto_plots(results),
        *_tuning_plots(results),
    ]


def _evaluation_plots(evaluation: Manifest) -> Iterator[Plot]:
    from stockpot.reporting import plots

    drawn = [
        ("Difference to the best ingredient", _DIFFERENCES, _NO_SOUP, plots.differences),
        ("Test against shift", _SCATTER, _NO_SHIFTS, plots.id_vs_shift),
        ("Score by shift", _BARS, _NO_SHIFTS, plots.shifts),
        ("Soups and luck", _RANDOM, "Left out: no random soups were made.", plots.random_soups),
        ("From the base to the soup", _WISE_FT, _NO_LINE, plots.wise_ft),
        ("Reliability", _RELIABILITY, _NO_CONFIDENCE, plots.reliability),
        ("Calibration error", _CALIBRATION, _NO_CONFIDENCE, plots.calibration),
    ]
    for title, caption, left_out, plot in drawn:
        svg = plot(evaluation)
        yield Plot(title, caption if svg else left_out, svg)


def _greedy_plots(results: Results) -> list[Plot]:
    from stockpot.reporting.plots import greedy_path

    unit = unit_of(results.evaluation)
    shown = [
        Plot(f"Path of {soup['name']}", _GREEDY, greedy_path(soup, unit, number))
        for number, soup in enumerate(results.soups["soups"], start=1)
        if soup["steps"]
    ]
    return shown or [Plot("Path of greedy", "Left out: no soup was made greedily.", None)]


def _pareto_plots(results: Results) -> list[Plot]:
    from stockpot.reporting.plots import pareto_front

    shown = [
        Plot(f"Pareto front of {study['name']}", _PARETO, pareto_front(study, results, number))
        for number, study in enumerate(results.tune["tuned"], start=1)
        if len(study["recipe"]["objectives"]) > 1
    ]
    return shown or [Plot("Pareto front", "Left out: no study had two objectives.", None)]


def _tuning_plots(results: Results) -> list[Plot]:
    from stockpot.reporting.plots import tuning_history

    unit = unit_of(results.evaluation)
    shown = [
        Plot(f"History of {study['name']}", _HISTORY, tuning_history(study, unit, number))
        for number, study in enumerate(results.tune["tuned"], start=1)
        if study["trials"]
    ]
    return shown or [Plot("Tuning history", "Left out: no coefficients were tuned.", None)]


_NO_SHIFTS = "Left out: the experiment has no test shifts."
_NO_SOUP = "Left out: no soup was compared with the best ingredient."
_NO_LINE = "Left out: no line from the base to a soup was followed."
_NO_CONFIDENCE = "Left out: the models' confidences were not looked at."
_DIFFERENCES = (
    "Both models on the same examples. A filled mark is a difference that was found, corrected for "
    "all that were looked for; a hollow one is not proof of equality. Where there is a band, "
    "differences inside it are too small for these examples to show."
)
_SCATTER = (
    "Up and to the right is better. Crosses are the intervals of the main models. A soup above the "
    "cloud of ingredients, or their broken line, keeps more of its score under shift than they do."
)
_BARS = "Bars stand in the order of the legend; the lines on them are intervals."
_RANDOM = (
    "The bar is mean and two standard deviations of random soups with as many ingredients (of any "
    "size for a soup of all). A soup inside its bar owes its score to averaging, not to the choice."
)
_WISE_FT = (
    "The average of base and soup, with more and more of the soup. The ringed mark is the best on "
    "val. If it lies before the end, a step back to the base helps."
)
_RELIABILITY = (
    "On the broken line a model is right as often as it is sure; below it is too sure. The right "
    "panel is after one temperature, fitted on val, which changes no decision. Larger marks hold "
    "more examples."
)
_CALIBRATION = (
    "From the hollow mark, the model as it is, to the filled one, after temperature scaling on "
    "val. What stays is not a matter of scale."
)
_GREEDY = (
    "Ingredients from the best on val to the worst, tried one after the other. One is kept when "
    "the soup with it scores at least as well on val."
)
_PARETO = (
    "Scores on val, not on test. Nothing below and left of the line is worth having: some "
    "trial is at least as good in both."
)
_HISTORY = "Scores on val, not on test. The search starts from the larger marks."
