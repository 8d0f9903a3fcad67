"""A run whose ingredients are held near a soup that is made first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from projects import PARAMS, ProjectFolder


@pytest.mark.full
def test_a_run_near_a_soup_records_it_and_is_up_to_date(
    make_project: Callable[..., ProjectFolder],
) -> None:
    space = PARAMS["sweep"]["space"] | {"anchor": "soup", "anchor_weight": 0.5}
    sweep = PARAMS["sweep"] | {"reference": {"size": 2}, "space": space}
    project = make_project(sweep=sweep)

    first = project.stockpot("run")
    second = project.stockpot("run")
    again = project.stockpot("reproduce", "ingredient-00")

    assert first.code == 0, first.output
    assert "Nothing to do" in second.output
    assert again.code == 0, again.output
    made = [model["name"] for model in project.manifest("sweep")["reference"]]
    assert made == ["reference-00", "reference-01", "reference"]
    names = {run.name for run in project.mlflow_runs()}
    assert {*made, "ingredient-00", "ingredient-03"} <= names
    judged = {model["name"] for model in project.manifest("evaluate")["models"]}
    assert not {*made} & judged
