"""No tool asks the internet or writes outside the project, and none complains about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import ProjectFolder

TROUBLE = ("telemetry", "analytics", "Traceback", "ERROR", "Max retries", "database is locked")


def test_a_run_writes_nothing_outside_its_project(finished_once: ProjectFolder) -> None:
    written = sorted(finished_once.home.rglob("*"))
    temporary = {path.name for path in (finished_once.root.parent / "tmp").iterdir()}

    assert written == []
    assert all(name.startswith("stockpot-slots-") for name in temporary), temporary


def test_a_run_does_not_use_the_database_of_a_server_that_people_start_in_the_project(
    finished_once: ProjectFolder,
) -> None:
    databases = {path.name for path in (finished_once.root / ".prefect").glob("*.db")}

    assert databases == {"stockpot.db"}


def test_a_run_asks_for_no_address_outside_this_machine(finished_once: ProjectFolder) -> None:
    guard = finished_once.finish("python", "-c", "import socket; socket.getaddrinfo('a.test', 1)")

    assert guard.code == 1
    assert finished_once.asked_for() == ["a.test"]  # the guard's own: it was awake


@pytest.mark.parametrize("word", TROUBLE)
def test_no_log_of_a_run_tells_of_trouble(finished_once: ProjectFolder, word: str) -> None:
    logs = [path for path in finished_once.root.rglob("*.log") if "studies" not in path.parts]

    assert logs != []
    assert [path.name for path in logs if word.lower() in _text(path).lower()] == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
