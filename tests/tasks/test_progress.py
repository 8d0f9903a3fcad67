from __future__ import annotations

import io

import pytest
from rich.console import Console

from tasks import progress
from tasks.progress import stage_progress, step_progress


def test_without_a_terminal_a_long_job_prints_its_steps_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", -1.0)
    console = Console(file=io.StringIO(), width=100)

    with step_progress(console, "check before merging") as on_step:
        on_step(3, 7)

    printed = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert printed == "check before merging: 3 of 7 steps, about 0 min left\n"


def test_without_a_terminal_a_short_job_prints_nothing() -> None:
    console = Console(file=io.StringIO(), width=100)

    with step_progress(console, "tuned") as on_step:
        on_step(1, 2)
        on_step(2, 2)

    assert console.file.getvalue() == ""  # type: ignore[attr-defined]  # it is a StringIO


@pytest.mark.parametrize("is_in_stage", [True, False])
def test_a_terminal_shows_the_steps_below_the_stage(is_in_stage: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)

    def take_steps() -> None:
        with step_progress(console, "my search") as on_step:
            for done in range(1, 5):
                on_step(done, 4)

    if is_in_stage:
        with stage_progress(console, "tune", 1) as advance:
            take_steps()
            advance("my search")
    else:
        take_steps()

    printed = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "my search" in printed
    assert ("tune" in printed) == is_in_stage
    assert progress._shown == []
