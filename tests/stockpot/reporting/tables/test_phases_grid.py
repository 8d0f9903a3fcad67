"""The table of phases in the report: density and val scores of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from judged_results import judged_results

from stockpot.reporting.figures import ReportFigures
from stockpot.reporting.html import render_report
from stockpot.reporting.results import Results
from stockpot.reporting.tables.phases_grid import phases_grid


def _entry(val: float, density: float, **more: Any) -> dict[str, Any]:
    return {"scores": {"val/accuracy": val}, "density": density, **more}


def _with_phases() -> Results:
    """Return results with a phase before that of the first two ingredients."""
    results = judged_results()
    first, second, *others = results.sweep["ingredients"]
    pruned = [
        {**one, "density": 0.25, "hyperparameters": {**one["hyperparameters"], "sparsity": 0.75}}
        for one in (first, second)
    ]
    models = [_entry(0.6, 0.5), _entry(0.8, 0.5)]
    phase = {"sparsity": 0.5, "models": models, "average": _entry(0.85, 0.5)}
    snapshot = {**pruned[0], "name": "ingredient-00-epoch-1", "epoch": 1}
    ingredients = [*pruned, snapshot, *others]
    return replace(results, sweep={**results.sweep, "ingredients": ingredients, "phases": [phase]})


def test_each_phase_has_its_density_and_val_scores() -> None:
    results = _with_phases()
    first, second = results.sweep["ingredients"][:2]

    grid = phases_grid(results)

    assert grid is not None
    assert grid.columns[1] == "density in %"
    before, last = ([cell.text for cell in row] for row in grid.rows)
    assert before == ["1", "50.00", "2", "70.0", "80.0", "85.0"]
    scores = [100 * one["scores"]["val/accuracy"] for one in (first, second)]
    assert last[:3] == ["2", "25.00", "2"]
    assert [float(text) for text in last[3:5]] == [round(sum(scores) / 2, 1), round(max(scores), 1)]


def test_the_report_shows_phases_only_where_there_are_some() -> None:
    assert phases_grid(judged_results()) is None
    without_plots = ReportFigures([], [])
    assert "<h3>Phases</h3>" in render_report(_with_phases(), {}, figures=without_plots)
    assert "<h3>Phases</h3>" not in render_report(judged_results(), {}, figures=without_plots)
