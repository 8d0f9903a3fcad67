from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from stockpot.experiment.doctor import folders
from stockpot.experiment.doctor.folders import check_leftovers, check_locks, check_write_access
from stockpot.experiment.doctor.outcome import Outcome
from stockpot.experiment.plan import Plan
from stockpot.storage.device_slots import DeviceSlots
from stockpot.storage.locks import run_lock


def by_name(outcomes: list[Outcome]) -> dict[str, Outcome]:
    return {each.name: each for each in outcomes}


def test_a_fresh_project_is_fine_and_stays_as_it_is(new_plan: Plan) -> None:
    project = new_plan.project

    outcomes = [*check_write_access(project), *check_locks(project), *check_leftovers(project)]

    assert {each.level for each in outcomes} == {"ok"}
    assert [path.name for path in project.root.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_named(
    new_plan: Plan, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    new_plan.project.state.mkdir()
    real: Callable[..., Any] = tempfile.TemporaryFile

    def refuse(dir: Path) -> Any:
        if dir == new_plan.project.state:
            raise OSError(code, os.strerror(code))
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    (outcome,) = check_write_access(new_plan.project)

    assert outcome.level == "problem"
    assert outcome.found == f"{new_plan.project.state}: {os.strerror(code)}"


def test_a_run_in_progress_a_killed_run_and_busy_devices_are_told_apart(new_plan: Plan) -> None:
    project = new_plan.project
    lock = project.state / "run.lock"

    with (
        run_lock(lock, "stockpot run", lambda _holder: None),
        DeviceSlots(["cpu"], lambda: None).hold("cpu"),
    ):
        text = lock.read_text()
        during = by_name([*check_locks(project)])
    lock.write_text(text)  # a killed process cannot empty it
    after = by_name([*check_locks(project)])

    assert during["run lock"].found == f"a run is in progress: {text}"
    assert during["device slots"].found.startswith(f"in use: cpu-0 (process {os.getpid()}")
    assert after["run lock"].found == f"left by a run that was killed: {text}"
    assert after["device slots"].level == "ok"


def test_a_file_system_that_ignores_locks_is_a_problem(
    new_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "file_lock", lambda _path: nullcontext())
    monkeypatch.setattr(folders, "is_free", lambda _path: True)

    outcome = by_name([*check_locks(new_plan.project)])["locks"]

    assert outcome.level == "problem"
    assert "use a local disk" in outcome.advice


def test_files_of_killed_runs_and_a_half_made_database_are_noted(new_plan: Plan) -> None:
    state = new_plan.project.state
    (state / "partial").mkdir(parents=True)
    (state / "partial" / "state.pt").write_bytes(bytes(2**20))
    (state / "mlflow.db.making").touch()

    outcomes = [*check_leftovers(new_plan.project)]

    assert [each.level for each in outcomes] == ["note", "note"]
    assert outcomes[0].found == "1 unused files, 1.0 MiB"
    assert outcomes[0].advice == "`stockpot gc` deletes them"
