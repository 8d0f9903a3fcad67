"""Ingredients that fail: what they are marked as, and what becomes of the experiment."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from projects import PARAMS, ProjectFolder, parent_of, wait_until

SPACE = PARAMS["sweep"]["space"]
REASON = "loss became"


def listed(*learning_rates: float, min_ingredients: int) -> dict[str, Any]:
    """Return a sweep over a list of learning rates, one epoch each."""
    points = [{"learning_rate": rate, "epochs": 1} for rate in learning_rates]
    space = {"learning_rate": 0.001, "epochs": 1}
    sweep = {"search": "list", "list": points, "size": len(points), "space": space}
    return sweep | {"min_ingredients": min_ingredients}


def workers(project: ProjectFolder) -> list[int]:
    """Return the process ids of a run's workers.

    They are forks of its fork server; in a temporary folder with a long name they are spawned.
    """
    commands = project.processes()
    servers = {pid for pid, command in commands.items() if "forkserver" in command}
    spawned = [pid for pid, command in commands.items() if "spawn_main" in command]
    return spawned + [pid for pid in servers if parent_of(pid) in servers]


@pytest.mark.full
def test_a_diverging_ingredient_is_marked_and_left_out_and_the_experiment_goes_on(
    finished_project: ProjectFolder,
) -> None:
    finished_project.change_params(sweep=listed(0.001, 1e6, 0.002, min_ingredients=2))

    run = finished_project.stockpot("run")

    assert run.code == 0, run.output
    assert "Traceback" not in run.output
    assert f"ingredient-01 failed: {REASON}" in run.output
    sweep = finished_project.manifest("sweep")
    assert [model["name"] for model in sweep["ingredients"]] == ["ingredient-00", "ingredient-02"]
    assert [failure["name"] for failure in sweep["failed"]] == ["ingredient-01"]
    assert REASON in sweep["failed"][0]["reason"]
    (logged,) = [r for r in finished_project.mlflow_runs() if r.status == "FAILED"]
    assert logged.name == "ingredient-01"
    assert REASON in logged.tags["stockpot.failure"]
    (task,) = [r for r in finished_project.prefect_runs("task") if r.status == "FAILED"]
    assert task.name == "train-ingredient-01"
    assert REASON in task.tags["message"]
    assert finished_project.dvc("status").output.strip() == "Data and pipelines are up to date."

    again = finished_project.stockpot("run")

    assert "Nothing to do" in again.output


@pytest.mark.full
def test_too_few_good_ingredients_stop_the_run_with_their_reasons(
    finished_project: ProjectFolder,
) -> None:
    finished_project.change_params(sweep=listed(0.001, 1e6, 2e6, min_ingredients=2))

    run = finished_project.stockpot("sweep")

    assert run.code == 1
    assert "1 of 3 ingredients are good, sweep.min_ingredients is 2" in run.output
    assert f"ingredient-02: {REASON}" in run.output
    assert "Traceback" not in run.output
    assert finished_project.no_processes_left(10)
    assert finished_project.parent_runs()[0].status == "FAILED"
    failed = [
        run.tags["message"] for run in finished_project.prefect_runs() if run.status == "FAILED"
    ]
    assert len(failed) == 1
    assert "1 of 3 ingredients are good" in failed[0]


@pytest.mark.full
def test_a_worker_that_is_killed_in_the_middle_costs_a_retry_and_changes_nothing(
    finished_project: ProjectFolder,
) -> None:
    sweep = finished_project.manifest("sweep")
    for file in (finished_project.root / "checkpoints" / "ingredients").iterdir():
        file.unlink()
    locks = finished_project.root / ".stockpot" / "locks"
    for file in locks.iterdir():
        file.unlink()
    process = finished_project.start("stockpot", "sweep")
    assert wait_until(lambda: any(locks.iterdir()), 180)

    for worker in workers(finished_project):
        os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)

    assert process.returncode == 0, output
    assert sweep["failed"] == []
    assert finished_project.manifest("sweep") == sweep
    tries = [run.tags["tries"] for run in finished_project.prefect_runs("task")]
    assert "2" in tries
