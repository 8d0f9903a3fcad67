"""Ctrl-C and SIGTERM: a run ends at once, says so everywhere, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

import pytest
from projects import PARAMS, ProjectFolder, wait_until

LONG_SPACE = {"learning_rate": 1e-3, "epochs": {"integer": [400, 500]}}

# What makes a stage last, and the task that is then at work.
LONG: dict[str, tuple[dict[str, Any], str]] = {
    "base": ({"base": {"epochs": 2000}}, "train-base"),
    "sweep": ({"sweep": {"space": LONG_SPACE}}, "train-ingredient"),
    "tune": ({"tune": [PARAMS["tune"][0] | {"trials": 5000}]}, "tune-tuned"),
    "evaluate": ({"evaluate": {"bootstrap": 400_000}}, "judge"),
}


def start_and_wait(project: ProjectFolder, task: str) -> subprocess.Popen[str]:
    """Start a run and wait until a task of this name is at work."""
    process = project.start("stockpot", "run")

    def at_work() -> bool:
        runs = project.prefect_runs("task")
        return any(run.name.startswith(task) and run.status == "RUNNING" for run in runs)

    assert wait_until(at_work, 180), process.poll()
    time.sleep(0.3)
    return process


def interrupt(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, float]:
    """Send a signal as a terminal does, to the whole group; return code, output and seconds."""
    start = time.monotonic()
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output, time.monotonic() - start


def unfinished(project: ProjectFolder) -> list[str]:
    """Return the flow and task runs that Prefect believes to be at work."""
    runs = [*project.prefect_runs("flow"), *project.prefect_runs("task")]
    return [run.name for run in runs if run.status in {"RUNNING", "PENDING"}]


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        pytest.param("sweep", signal.SIGINT, marks=pytest.mark.full),
        pytest.param("tune", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("base", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("tune", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("evaluate", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("sweep", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_ends_a_run_at_once_and_marks_it(
    finished_project: ProjectFolder, stage: str, number: signal.Signals
) -> None:
    changes, task = LONG[stage]
    finished_project.change_params(**changes)
    process = start_and_wait(finished_project, task)

    code, output, seconds = interrupt(process, number)

    assert code == 130, output
    assert seconds < 5
    assert "Interrupted" in output
    assert "Traceback" not in output
    assert finished_project.no_processes_left(10)
    assert finished_project.parent_runs()[0].status == "KILLED"
    experiment_and_stage = [r for r in finished_project.prefect_runs() if r.status == "CRASHED"]
    assert len(experiment_and_stage) == 2
    assert all("aborted by a" in run.tags["message"] for run in experiment_and_stage)
    assert unfinished(finished_project) == []
