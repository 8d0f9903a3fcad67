from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tasks.progress import stage_progress


def _show(*, terminal: bool, total: int, names: list[str]) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120, color_system=None)
    with stage_progress(console, "sweep", total) as advance:
        for name in names:
            advance(name)
    return output.getvalue()


def test_without_a_terminal_there_is_one_line_at_the_end() -> None:
    assert _show(terminal=False, total=2, names=["a", "b"]) == "sweep: 2 done\n"


def test_on_a_terminal_there_is_a_bar_with_count_rate_and_time_left() -> None:
    shown = _show(terminal=True, total=3, names=["ingredient-00", "ingredient-01"])

    last = shown.splitlines()[-2]
    assert "sweep" in last
    assert "2/3" in last
    assert re.search(r"\d+/min", last)
    assert "left" in last


def test_a_bar_of_nothing_done_shows_no_rate() -> None:
    shown = _show(terminal=True, total=3, names=[])

    assert "0/3" in shown
    assert "/min" not in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_goes_through_and_nothing_is_said_to_be_done(terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=120, color_system=None)

    with pytest.raises(RuntimeError, match="lost"), stage_progress(console, "sweep", 2):
        raise RuntimeError("lost")

    assert "done" not in output.getvalue()
