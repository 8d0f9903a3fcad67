"""Leases: files that say which runs still have a living process on this machine.

A process locks a file per run that it does, until it ends; the kernel releases the lock even if the
process is killed. So a free lock is proof of a dead run, which a run's state in Prefect is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.storage.locks import file_lock, is_free

if TYPE_CHECKING:
    from filelock import FileLock

_held: dict[Path, FileLock] = {}


def take_lease(folder: Path, run_id: str) -> None:
    """Hold the lease of a run until this process ends.

    It is not released at the end of the run's work: until the server has the run's final state, the
    run would look dead.
    """
    path = folder / run_id
    if path not in _held:
        lock = file_lock(path)
        lock.acquire()
        _held[path] = lock


def has_living_process(folder: Path, run_id: str) -> bool | None:
    """Return whether a process holds the lease of a run; None if there never was a lease."""
    path = folder / run_id
    if path in _held:
        return True
    return not is_free(path) if path.is_file() else None


def drop_dead_leases(folder: Path) -> None:
    """Delete the leases that no process holds."""
    for path in folder.glob("*"):
        if path not in _held:
            is_free(path, remove=True)
