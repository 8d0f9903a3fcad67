"""File locks across processes and threads; the kernel releases them when their process ends.

They are exclusive `flock` locks of the library filelock, without its fallback for file systems
that have no `flock`: those locks would outlive a killed process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError

if TYPE_CHECKING:
    from filelock import FileLock

_POLL_SECONDS = 0.05
_MAX_SECONDS_TO_SIGN = 0.5
_held_run_locks: set[Path] = set()  # of this process: a flow inside `stockpot run` re-enters


def file_lock(path: Path) -> FileLock:
    """Return an exclusive lock on `path`, for a `with` statement that waits until it is free."""
    from filelock import FileLock  # not above: it takes 0.08 s, and most commands take no lock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, poll_interval=_POLL_SECONDS, thread_local=False, fallback_to_soft=False)


def try_lock(lock: FileLock) -> bool:
    """Acquire a lock if it is free."""
    from filelock import Timeout

    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def is_free(path: Path, *, remove: bool = False) -> bool:
    """Return whether no process holds the lock on `path`, a file that exists.

    Args:
        path: the lock file.
        remove: whether to delete the file if it is free.
    """
    lock = file_lock(path)
    if not try_lock(lock):
        return False
    if remove:
        path.unlink(missing_ok=True)
    lock.release()
    return True


@contextmanager
def run_lock(path: Path, purpose: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a whole run; re-entrant within a process.

    Args:
        path: the lock file; its content names the process that holds it, and the purpose.
        purpose: shown to those who wait.
        waiting: called once with that content if another process holds the lock.
    """
    if path in _held_run_locks:
        yield
        return
    lock = file_lock(path)
    if not try_lock(lock):
        waiting(holder(path))
        lock.acquire()
    try:
        sign(path, purpose)
        _held_run_locks.add(path)
        yield
    finally:
        _held_run_locks.discard(path)
        path.write_text("", encoding="utf-8")
        lock.release()


@contextmanager
def sole_writer(place: Path) -> Iterator[None]:
    """Lock the path of an output, so that no other process writes to it.

    The lock file is next to it, and removed afterwards.

    Raises:
        InputError: another process holds the lock.
    """
    path = place.with_name(f".{place.name}.lock")
    lock = file_lock(path)
    while not try_lock(lock):
        with suppress(FileNotFoundError):  # the holder is just about to finish
            raise InputError(f"{place}: {holder(path)} writes to it; wait, or choose another place")
    try:
        sign(path, "stockpot merge")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def any_lock(paths: Sequence[Path], check: Callable[[], None]) -> Iterator[int]:
    """Hold one of several locks, the first that is free; yield its index.

    Args:
        paths: the lock files.
        check: called before each attempt; ends the wait by raising.
    """
    locks = [file_lock(path) for path in paths]
    while True:
        check()
        taken = next((index for index, lock in enumerate(locks) if try_lock(lock)), None)
        if taken is not None:
            break
        time.sleep(_POLL_SECONDS)
    try:
        yield taken
    finally:
        locks[taken].release()


def sign(path: Path, purpose: str) -> None:
    """Write into a lock file who holds it."""
    since = time.strftime("%H:%M:%S")
    path.write_text(f"process {os.getpid()} ({purpose}, since {since})", encoding="utf-8")


def holder(path: Path) -> str:
    """Return who holds a lock; a process that has just acquired it gets time to sign."""
    deadline = time.monotonic() + _MAX_SECONDS_TO_SIGN
    while not (text := path.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return text or "another process"
