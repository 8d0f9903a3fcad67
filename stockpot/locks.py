"""Operating-system file locks: the kernel frees them when their process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

_POLL_SECONDS = 0.05
_MOST_SECONDS_TO_SIGN = 0.5
_held_by_us: set[Path] = set()  # run locks of this process: a flow inside `stockpot run` re-enters


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; wait until it is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def run_lock(path: Path, purpose: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a whole run; re-entrant in one process.

    Args:
        path: the lock file; it says which process holds it and what for.
        purpose: what this run is, for whoever waits.
        waiting: called once, with the holder's own words, when another process has the lock.
    """
    if path in _held_by_us:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _try(file.fileno()):
            waiting(_holder(path))
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} ({purpose}, since {time.strftime('%H:%M:%S')})")
        file.flush()
        _held_by_us.add(path)
        try:
            yield
        finally:
            _held_by_us.discard(path)
            file.truncate(0)


def _holder(path: Path) -> str:
    """Return who holds a run lock; a holder of this very moment gets time to say so."""
    deadline = time.monotonic() + _MOST_SECONDS_TO_SIGN
    while not (holder := path.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return holder or "another process"


@contextmanager
def any_lock(paths: Sequence[Path], check: Callable[[], None]) -> Iterator[int]:
    """Hold one of several locks, the first that is free; yield its position.

    Args:
        paths: the lock files.
        check: called while waiting; ends the wait by raising.
    """
    with ExitStack() as stack:
        position = None
        while position is None:
            check()
            position = next((n for n, path in enumerate(paths) if _enter(stack, path)), None)
            if position is None:
                time.sleep(_POLL_SECONDS)
        yield position


def _enter(stack: ExitStack, path: Path) -> bool:
    """Take the lock of a file if it is free, and hold it until the stack is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    taken = _try(file.fileno())
    if taken:
        stack.enter_context(file)
    else:
        file.close()
    return taken


def _try(descriptor: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
