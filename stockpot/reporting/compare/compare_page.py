"""The page that compares runs: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterator

from stockpot.reporting.compare import run_grids
from stockpot.reporting.compare.run_verdicts import run_caveat, run_headline, run_verdicts
from stockpot.reporting.compare.runs import Runs
from stockpot.reporting.pages import PageFigure, page_template
from stockpot.reporting.words.comparisons import star_note
from stockpot.reporting.words.estimates import interval_name


def render_comparison(compared: Runs) -> str:
    """Return the comparison as one page; equal arguments give equal text."""
    return page_template("compare").render(
        runs=compared.runs,
        headline=run_headline(compared),
        verdicts=run_verdicts(compared),
        caveat=run_caveat(compared),
        unit=compared.unit,
        confidence=interval_name(compared.confidence),
        star_note=star_note(compared.runs[0].results.evaluation),
        plots=list(_figures(compared)),
        tables={
            "best": run_grids.best_grid(compared),
            "settings": run_grids.settings_grid(compared.runs),
            "models": run_grids.all_models_grid(compared.runs),
            "digests": run_grids.digests_grid(compared.runs),
        },
    )


def _figures(compared: Runs) -> Iterator[PageFigure]:
    from stockpot.reporting.compare.run_scores import run_scores
    from stockpot.reporting.compare.run_shifts import run_shifts
    from stockpot.reporting.compare.run_soup_sizes import run_soup_sizes

    for plot in (run_scores, run_shifts, run_soup_sizes):
        yield plot.figure(compared)
