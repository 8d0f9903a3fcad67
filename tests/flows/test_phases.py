"""A run in phases: pruned, retrained, averaged, again from the average."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from projects import PARAMS, ProjectFolder


@pytest.mark.full
def test_a_run_in_phases_records_and_reports_all_of_them_and_is_up_to_date(
    make_project: Callable[..., ProjectFolder],
) -> None:
    phases = [{"sparsity": 0.5, "models": 3, "epochs": 1}, {"sparsity": 0.9, "models": 2}]
    project = make_project(sweep=PARAMS["sweep"] | {"phases": phases})

    first = project.stockpot("run")
    second = project.stockpot("run")
    again = [project.stockpot("reproduce", name) for name in ("phase-1", "ingredient-01")]

    assert first.code == 0, first.output
    assert "Nothing to do" in second.output
    assert [run.code for run in again] == [0, 0], again
    sweep = project.manifest("sweep")
    [phase] = sweep["phases"]
    made = [*(model["name"] for model in phase["models"]), phase["average"]["name"]]
    assert made == ["phase-1-00", "phase-1-01", "phase-1-02", "phase-1"]
    assert phase["average"]["density"] == pytest.approx(0.5, abs=1e-4)
    densities = [model["density"] for model in sweep["ingredients"]]
    assert densities == pytest.approx([0.1, 0.1], abs=1e-4)
    names = {run.name for run in project.mlflow_runs()}
    assert {*made, "ingredient-00", "ingredient-01"} <= names
    judged = {model["name"]: model for model in project.manifest("evaluate")["models"]}
    assert not {*made} & judged.keys()
    [soup, _] = project.manifest("soups")["soups"]
    assert soup["density"] == pytest.approx(0.1, abs=1e-4)
    report = (project.root / "results" / "report.html").read_text(encoding="utf-8")
    assert "<h3>Phases</h3>" in report
