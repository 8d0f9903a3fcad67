"""A run with nets that share no base, from files to the report."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from exported_nets import export_nets
from projects import ProjectFolder


@pytest.mark.full
def test_a_run_aligns_imported_nets_and_is_up_to_date_afterwards(
    make_project: Callable[..., ProjectFolder],
) -> None:
    sweep = {"import": "runs/*.safetensors", "align": "activations", "size": 0}
    project = make_project(sweep=sweep | {"min_ingredients": 3})
    export_nets(project.root / "runs", 3)

    first = project.stockpot("run")
    second = project.stockpot("run")
    again = project.stockpot("reproduce", "imported-b", "uniform", "tuned")

    assert first.code == 0, first.output
    assert "Nothing to do" in second.output
    assert again.code == 0, again.output
    manifest = project.manifest("sweep")
    assert [model["name"] for model in manifest["ingredients"]] == [
        *("imported-a", "imported-b", "imported-c")
    ]
    assert ["aligned" in model for model in manifest["ingredients"]] == [False, True, True]
    assert [model["name"] for model in manifest["imported"]] == ["imported-b", "imported-c"]
    assert manifest["precheck"]["failed"] == []
    runs = [run.name for run in project.mlflow_runs()]
    assert (runs.count("imported-a"), runs.count("imported-b")) == (1, 2)
