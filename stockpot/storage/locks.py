"""Operating-system file locks: the kernel frees them when their process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

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
        _sign(file, purpose)
        _held_by_us.add(path)
        try:
            yield
        finally:
            _held_by_us.discard(path)
            file.truncate(0)


def _sign(file: IO[str], purpose: str) -> None:
    """Write into a lock file who holds it."""
    file.truncate(0)
    file.write(f"process {os.getpid()} ({purpose}, since {time.strftime('%H:%M:%S')})")
    file.flush()


def _is_at(path: Path, descriptor: int) -> bool:
    """Say whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Return who holds such a lock; a holder of this very moment gets time to say so."""
    deadline = time.monotonic() + _MOST_SECONDS_TO_SIGN
    while not (holder := path.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return holder or "another process"


@contextmanager
def sole_lock(path: Path, purpose: str, taken: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of work that two processes may not do at once; its file is gone afterwards.

    Args:
        path: the lock file, in a folder that is there.
        purpose: what the work is, for whoever comes second.
        taken: called with the holder's own words when another process has the lock; it raises.
    """
    while True:
        with path.open("a+") as file:
            if not _try(file.fileno()):
                with suppress(FileNotFoundError):  # the holder ends at this moment
                    taken(_holder(path))
                continue
            if not _is_at(path, file.fileno()):
                continue  # the holder has removed it since
            _sign(file, purpose)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


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
