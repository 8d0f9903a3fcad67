"""Output in the terminal: commands to copy are not wrapped."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest
from rich.table import Table

from flows import cli, terminal
from flows.__main__ import main
from stockpot.errors import InputError
from stockpot.storage.weights.opening import open_source


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return what is printed on a terminal of 80 columns."""
    text = io.StringIO()
    console = type(terminal.OUT)(file=text, width=80, highlight=False, markup=False)
    monkeypatch.setattr(terminal, "ERR", console)
    monkeypatch.setattr(terminal, "OUT", console)
    return text


def test_commands_in_an_error_are_lines_of_their_own(printed: io.StringIO) -> None:
    long = "stockpot reproduce " + "x" * 100

    terminal.show_error("Failed", f"lost; run `stockpot run` first, or `{long}`, not `other x`")

    lines = printed.getvalue().splitlines()
    assert lines[-2:] == ["  stockpot run", f"  {long}"]
    assert max(map(len, lines[:-1])) <= 80


def test_a_command_at_the_end_of_an_error_is_shown_once(
    printed: io.StringIO, tmp_path: Path
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError) as error:
        open_source(tmp_path / "model.gguf")

    terminal.show_error("Cannot start", str(error.value))

    *_, command = printed.getvalue().splitlines()
    assert command.startswith('  python -c "from transformers import ')
    assert command.endswith(".save_pretrained('converted')\"")
    assert printed.getvalue().count("save_pretrained") == 1


def test_the_next_command_is_not_wrapped(printed: io.StringIO) -> None:
    terminal.show_next("stockpot explain " + "x" * 100)

    assert printed.getvalue() == f"Next: stockpot explain {'x' * 100}\n"


def test_control_characters_in_names_are_shown(printed: io.StringIO) -> None:
    table = Table("model")
    table.add_row("a\x1b[2Jb")

    terminal.OUT.print(table)
    terminal.OUT.print("a\x1b]0;title\x07\u202eb")
    terminal.show_error("Failed", "no such file: \x9b1m\rc")

    for shown in ("a\\x1b[2Jb", "a\\x1b]0;title\\x07\\u202eb", "\\x9b1m\\rc"):
        assert shown in printed.getvalue()


def test_a_full_disk_is_named_with_a_remedy(
    printed: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/x", None, "out/x")

    monkeypatch.setattr(cli, "app", copy)
    with pytest.raises(SystemExit) as end:
        cli.main()

    assert end.value.code == 1
    assert "out/x: the disk is full; free some space, and run" in printed.getvalue()


def test_an_interrupt_while_the_command_is_imported_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "flows.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "flows.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 130
