"""The end of an interrupted `stockpot` command."""

from __future__ import annotations

import atexit
import io
import os
import sys

import pytest

from flows import cli


class ReaderEnded(io.StringIO):
    """Standard output whose reader has ended, as after `stockpot run | head`."""

    def flush(self) -> None:
        """Fail as a closed pipe does."""
        raise BrokenPipeError


@pytest.mark.parametrize("output", [io.StringIO, ReaderEnded])
def test_an_interrupted_command_ends_at_once_with_its_code(
    output: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        sys.exit(130)

    def end(code: int) -> None:
        raise RuntimeError(f"ended with {code}")

    monkeypatch.setattr(cli, "app", interrupted)
    monkeypatch.setattr(cli, "set_threshold", lambda _objects: None)
    monkeypatch.setattr(atexit, "register", lambda _function: None)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(sys, "stdout", output())

    with pytest.raises(RuntimeError, match="ended with 130"):
        cli.main()
