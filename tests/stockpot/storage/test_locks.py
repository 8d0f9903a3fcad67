from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.storage.locks import any_lock, file_lock, run_lock, sole_writer

HOLD_FILE_LOCK = """
import sys
from pathlib import Path
from stockpot.storage.locks import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

HOLD_RUN_LOCK = """
import sys
from pathlib import Path
from stockpot.storage.locks import run_lock
with run_lock(Path(sys.argv[1]), "stockpot run", lambda holder: None):
    print("held", flush=True)
    sys.stdin.readline()
"""

HOLD_OUTPUT = """
import sys
from pathlib import Path
from stockpot.storage.locks import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""

Start = Callable[[str, Path], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that holds a lock until it reads a line; return it once it has the lock."""
    started = []

    def start_it(source: str, path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", source, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start_it
    for process in started:
        process.kill()
        process.communicate()


def _is_free(path: Path) -> bool:
    """Try a lock once, as `any_lock` does."""

    def give_up() -> None:
        if next(tries, None) is None:
            raise TimeoutError

    tries = iter([1])
    try:
        with any_lock([path], give_up):
            return True
    except TimeoutError:
        return False


def _release(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")


def test_a_second_process_waits_for_the_file_lock(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.lock"
    first = start(HOLD_FILE_LOCK, path)
    taken = threading.Event()

    def take() -> None:
        with file_lock(path):
            taken.set()

    waiter = threading.Thread(target=take)
    waiter.start()
    assert not taken.wait(0.3)
    _release(first)

    assert taken.wait(5)
    waiter.join()


@pytest.mark.parametrize("source", [HOLD_FILE_LOCK, HOLD_RUN_LOCK])
def test_a_killed_process_frees_its_lock(start: Start, tmp_path: Path, source: str) -> None:
    path = tmp_path / "a.lock"
    holder = start(source, path)
    assert not _is_free(path)

    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()

    assert _is_free(path)


def test_a_file_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"

    with pytest.raises(RuntimeError, match="inside"), file_lock(path):
        raise RuntimeError("inside")

    assert _is_free(path)


def test_a_second_run_is_told_whom_it_waits_for_and_then_goes_on(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "run.lock"
    first = start(HOLD_RUN_LOCK, path)
    told: list[str] = []

    def waiting(holder: str) -> None:
        told.append(holder)
        _release(first)

    with run_lock(path, "second", waiting):
        written = path.read_text()

    assert [text.startswith(f"process {first.pid} (stockpot run, since ") for text in told] == [
        True
    ]
    assert written.startswith(f"process {os.getpid()} (second, since ")


def test_a_run_that_finds_the_lock_of_a_killed_one_does_not_wait(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "run.lock"
    killed = start(HOLD_RUN_LOCK, path)
    killed.kill()
    killed.wait()
    told: list[str] = []

    with run_lock(path, "second", told.append):
        written = path.read_text()

    assert told == []
    assert written.startswith(f"process {os.getpid()} (second, since ")


def test_a_run_lock_is_entered_again_by_the_same_process(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    told: list[str] = []

    with run_lock(path, "outer", told.append):
        with run_lock(path, "inner", told.append):
            inside = path.read_text()
        still_held = not _is_free(path)

    assert "outer" in inside
    assert still_held
    assert told == []
    assert path.read_text() == ""
    assert _is_free(path)


def test_a_later_run_of_the_same_process_takes_the_lock_again(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with run_lock(path, "first", lambda _: None):
        pass

    with run_lock(path, "second", lambda _: None):
        held = not _is_free(path)
        written = path.read_text()

    assert held
    assert "(second, since " in written


def test_who_comes_second_to_an_output_is_told_of_the_holder(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "merged"
    first = start(HOLD_OUTPUT, place)

    with (
        pytest.raises(InputError, match=rf"merged: process {first.pid} \(stockpot merge, since "),
        sole_writer(place),
    ):
        pytest.fail("the lock is not free")


@pytest.mark.parametrize("end", [_release, subprocess.Popen.kill])
def test_the_lock_of_an_output_is_free_after_its_holder(
    start: Start, tmp_path: Path, end: Callable[[subprocess.Popen[str]], None]
) -> None:
    place, lock = tmp_path / "merged", tmp_path / ".merged.lock"
    holder = start(HOLD_OUTPUT, place)
    end(holder)
    holder.wait()

    with sole_writer(place):
        written = lock.read_text()

    assert written.startswith(f"process {os.getpid()} (stockpot merge, since ")
    assert not lock.exists()


def test_an_output_whose_lock_file_was_removed_has_not_two_writers(tmp_path: Path) -> None:
    inside, most, over = [], [], threading.Event()

    def work() -> None:
        while not over.is_set():
            with suppress(InputError), sole_writer(tmp_path / "merged"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    over.set()
    for thread in threads:
        thread.join()

    assert len(most) > 20
    assert max(most) == 1


def test_any_lock_takes_the_first_that_is_free(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / "slots" / f"{slot}.lock" for slot in range(3)]
    start(HOLD_FILE_LOCK, paths[0])

    with any_lock(paths, lambda: None) as first, any_lock(paths, lambda: None) as second:
        taken = [first, second]

    assert taken == [1, 2]
    assert [_is_free(path) for path in paths] == [False, True, True]


def test_any_lock_waits_until_one_is_free(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / "0.lock", tmp_path / "1.lock"]
    holders = [start(HOLD_FILE_LOCK, path) for path in paths]
    waits = iter(range(100))

    def release_the_second_after_a_while() -> None:
        if next(waits) == 2:
            _release(holders[1])

    with any_lock(paths, release_the_second_after_a_while) as position:
        assert position == 1
        assert next(waits) >= 3


def test_any_lock_stops_waiting_when_the_check_raises(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "0.lock"
    start(HOLD_FILE_LOCK, path)
    deadline = time.monotonic() + 0.2

    def check() -> None:
        if time.monotonic() > deadline:
            raise InterruptedError("stopped")

    with pytest.raises(InterruptedError, match="stopped"), any_lock([path], check):
        pytest.fail("the lock is not free")


def test_any_lock_holds_no_lock_that_it_did_not_take(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / "0.lock", tmp_path / "1.lock"]
    holder = start(HOLD_FILE_LOCK, paths[0])

    with ExitStack() as stack:
        stack.enter_context(any_lock(paths, lambda: None))
        _release(holder)

        assert _is_free(paths[0])
