"""A sweep over soup settings as a queue of DVC experiments."""

from __future__ import annotations

import csv

import pytest
from projects import ProjectFolder


@pytest.mark.slow
def test_a_queue_over_soup_settings_trains_nothing_and_shows_what_changed(
    served_project: ProjectFolder,
) -> None:
    project = served_project
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "results")
    before = project.times()
    for setting in ("soups.1.select=uniform", "soups.0.select=greedy"):
        queued = project.dvc("exp", "run", "--queue", "-S", setting)
        assert queued.code == 0, queued.output

    ran = project.dvc("exp", "run", "--run-all")

    assert ran.code == 0, ran.output
    assert "Running stage 'soups'" in ran.output
    assert not any(f"Running stage '{stage}'" in ran.output for stage in ("base", "sweep", "tune"))
    assert project.times() == before  # the project itself is as it was
    assert project.git("status", "--short") == ""
    experiments = [run.tags.get("stockpot.dvc_experiment") for run in project.parent_runs()]
    assert len({name for name in experiments if name}) == 2
    table = project.dvc("exp", "show", "--csv", "--only-changed", "--drop", "results/.*")
    rows = list(csv.DictReader(table.output.splitlines()))
    changed = [row for row in rows if row["Experiment"]]
    assert [row["State"] for row in changed] == ["Success", "Success"]
    assert len({row["soups"] for row in rows}) == 3
    assert {"uniform.val/accuracy", "greedy.val/accuracy"} & {*rows[0]}
    assert project.no_processes_left(60)
