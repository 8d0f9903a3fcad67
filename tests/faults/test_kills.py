"""`kill -9` at any moment, then the same command again: it finishes, and nothing is made twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from projects import ProjectFolder, wait_until


def weights(project: ProjectFolder) -> dict[str, int]:
    """Return when each file of weights was written, by its path.

    A model without its record, which is written last, was the step in flight.
    """
    times = project.times()
    return {
        path: time
        for path, time in times.items()
        if path.endswith(".safetensors") and path.replace(".safetensors", ".json") in times
    }


def kill_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def made(folder: str, number: int) -> Callable[[ProjectFolder], bool]:
    """Return the claim that so many files of a kind are there."""
    return lambda project: len(list(project.root.glob(f"{folder}/*.*"))) >= number


SILENCED = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# Moments of a run, in order, told by what it has written; the slow test has more.
MOMENTS = {
    "half of the ingredients are made": made("checkpoints/ingredients", 4),
    # 8 models and the targets are on val and its shift before any is on test.
    "models are being judged": made(".stockpot/predictions", 9 * 2 + 3),
}


@pytest.mark.full
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(
    make_project: Callable[..., ProjectFolder], finished_once: ProjectFolder
) -> None:
    project = make_project(own_server=True)
    kept: dict[str, int] = {}

    for has_come in MOMENTS.values():
        process = project.start("stockpot", "run")
        assert wait_until(partial(has_come, project), 180), process.poll()
        kill_group(process)
        assert project.no_processes_left(10)
        assert kept.items() <= weights(project).items()
        kept = weights(project)
    last = project.stockpot("run")

    assert last.code == 0, last.output
    assert project.digests() == finished_once.digests()
    assert kept.items() <= weights(project).items()
    statuses = [run.status for run in project.parent_runs()]
    assert statuses[0] == "FINISHED"
    assert set(statuses[1:]) == {"KILLED"}
    assert not [run for run in project.prefect_runs() if run.status in {"RUNNING", "PENDING"}]
    assert project.dvc("status").output.strip() == "Data and pipelines are up to date."


@pytest.mark.full
def test_all_processes_of_a_run_are_silenced_and_end_with_the_main_one(
    finished_project: ProjectFolder,
) -> None:
    finished_project.change_params(sweep={"space": {"learning_rate": 0.001, "epochs": 400}})
    process = finished_project.start("stockpot", "sweep")
    locks = finished_project.root / ".stockpot" / "locks"
    before = len(list(locks.iterdir()))
    assert wait_until(lambda: len(list(locks.iterdir())) > before, 180)
    environments = finished_project.environments()

    process.kill()

    assert len(environments) >= 4  # the main one, the server and two workers
    assert all(environment.items() >= SILENCED.items() for environment in environments[1:])
    assert finished_project.no_processes_left(10), finished_project.processes()
    process.communicate()


@pytest.mark.slow
def test_a_kill_at_any_of_twelve_moments_changes_nothing(
    make_project: Callable[..., ProjectFolder],
) -> None:
    undisturbed = make_project("undisturbed", own_server=True)
    whole = undisturbed.stockpot("run")
    assert whole.code == 0, whole.output

    for moment in range(12):
        project = make_project(f"killed-{moment}", own_server=True)
        process = project.start("stockpot", "run")
        time.sleep(whole.seconds * (moment + 0.5) / 12)
        kill_group(process)
        no_orphans = project.no_processes_left(10)
        kept = weights(project)
        again = project.stockpot("run")

        assert no_orphans
        assert again.code == 0, again.output
        assert project.digests() == undisturbed.digests()
        assert kept.items() <= weights(project).items()


@pytest.mark.slow
def test_long_fine_tuning_goes_on_where_it_was_killed(
    make_project: Callable[..., ProjectFolder], tmp_path: Path
) -> None:
    space = {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": 150, "mixup": 0.2}
    sweep = {"size": 2, "min_ingredients": 2, "save_every_seconds": 0.2, "space": space}
    undisturbed = make_project("undisturbed", sweep=sweep)
    base = undisturbed.stockpot("base")
    project = undisturbed.copy(tmp_path / "killed")
    whole = undisturbed.stockpot("sweep")

    for _ in range(4):
        process = project.start("stockpot", "sweep")
        assert wait_until(partial(both_were_saved_since, saved_states(project), project), 180)
        kill_group(process)
    last = project.stockpot("sweep")

    assert (base.code, whole.code, last.code) == (0, 0, 0), last.output
    assert project.manifest("sweep") == undisturbed.manifest("sweep")
    assert saved_states(project) == {}
    assert last.seconds < whole.seconds


def both_were_saved_since(before: dict[str, int], project: ProjectFolder) -> bool:
    return len(saved_states(project).items() - before.items()) == 2


def saved_states(project: ProjectFolder) -> dict[str, int]:
    """Return when the state of each unfinished fine-tuning was saved."""
    files = (project.root / ".stockpot" / "partial").glob("*.safetensors")
    return {file.name: file.stat().st_mtime_ns for file in files}
