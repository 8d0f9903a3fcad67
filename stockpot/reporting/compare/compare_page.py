"""The page that compares runs: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockpot.reporting.compare import run_grids
from stockpot.reporting.compare.run_verdicts import run_caveat, run_headline, run_verdicts
from stockpot.reporting.compare.runs import Run, Runs
from stockpot.reporting.figures import Plot
from stockpot.reporting.pages import page_template
from stockpot.reporting.tables.table import star_words
from stockpot.reporting.words.estimates import confidence_words


def render_comparison(compared: Runs) -> str:
    """Return the comparison as one page; equal arguments give equal text."""
    evaluation = compared.runs[0].results.evaluation
    return page_template("compare").render(
        runs=compared.runs,
        headline=run_headline(compared),
        verdicts=run_verdicts(compared),
        caveat=run_caveat(compared),
        unit=compared.unit,
        confidence=confidence_words(compared.confidence),
        star=star_words(evaluation),
        plots=list(_plots(compared.runs)),
        tables={
            "best": run_grids.best_grid(compared),
            "settings": run_grids.settings_grid(compared.runs),
            "models": run_grids.all_models_grid(compared.runs),
            "digests": run_grids.digests_grid(compared.runs),
        },
    )


def _plots(runs: Sequence[Run]) -> Iterator[Plot]:
    from stockpot.reporting.compare.run_scores import run_scores
    from stockpot.reporting.compare.run_shifts import run_shifts
    from stockpot.reporting.compare.run_soup_sizes import run_soup_sizes

    drawn = [
        ("Best soups", _SCORES, "", run_scores),
        ("Score by shift", _SHIFTS, "Left out: no test shift is in all runs.", run_shifts),
        ("Soup size", _SIZES, "Left out: no run looked at soup sizes.", run_soup_sizes),
    ]
    for title, caption, left_out, plot in drawn:
        svg = plot(runs)
        yield Plot(title, caption if svg else left_out, svg)


_SCORES = (
    "The best soup on val of each run, with the interval of its score. That two intervals overlap "
    "does not mean that there is no difference: the paired tests above are sharper."
)
_SHIFTS = "Bars stand in the order of the legend; the lines on them are intervals."
_SIZES = (
    "Expected val score of a soup against its number of ingredients, over random orders. A curve "
    "that lies higher has better ingredients; one that still rises gains by training more."
)
