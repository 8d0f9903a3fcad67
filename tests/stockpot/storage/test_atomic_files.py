from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stockpot.storage.atomic_files import atomic_path, write_text

KILLED_WHILE_WRITING = """
import sys, time
from pathlib import Path
from stockpot.storage.atomic_files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


def _write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_the_file_appears_whole_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"

    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        visible_before = path.exists()

    assert not visible_before
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"

    with pytest.raises(OSError, match="disk full"):
        _write_half(path, OSError("disk full"))

    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    with pytest.raises(KeyboardInterrupt):
        _write_half(path, KeyboardInterrupt())

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file.txt"):
        pass

    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_while_writing_leaves_only_a_tmp_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        os.kill(process.pid, signal.SIGKILL)

    assert [file.name[:10] for file in tmp_path.iterdir()] == [".file.txt."]
    assert [file.suffix for file in tmp_path.iterdir()] == [".tmp"]


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"

    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")

    assert path.read_text() == "first"


def test_write_text_replaces_a_file_in_utf8(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("a much longer old text")

    write_text(path, "soupçon ✓")

    assert path.read_bytes() == "soupçon ✓".encode()
