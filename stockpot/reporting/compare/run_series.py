"""The best model of each run with its looks in the plots."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.reporting.compare.runs import Run, model_label
from stockpot.reporting.plots.series import Series, merged_look, shorten


def run_series(runs: Sequence[Run]) -> list[Series]:
    """Return one series per run: its best model, with the name that starts tooltips."""
    return [
        Series(
            {**run.best, "name": model_label(run, run.best["name"])},
            shorten(run.label),
            merged_look(number),
        )
        for number, run in enumerate(runs)
    ]
