"""The folders of a project: can they be written and locked, and what has been left in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stockpot.experiment.doctor.outcome import Outcome
from stockpot.experiment.garbage import find_garbage
from stockpot.storage.device_slots import slots_folder
from stockpot.storage.locks import file_lock, holder, is_free
from stockpot.storage.project import Project


def check_write_access(project: Project) -> Iterator[Outcome]:
    """Write a file into each folder that a run writes to, and delete it."""
    checkpoints = project.root / "checkpoints"
    names = (project.state, project.results, checkpoints, project.prefect_home)
    folders = [project.root, *(folder for folder in names if folder.exists())]
    refusals = [*_refusals(folders)]
    yield from refusals
    if not refusals:
        shown = ", ".join(folder.name for folder in folders[1:]) or "the project folder"
        yield Outcome("ok", "write access", shown)


def _refusals(folders: list[Path]) -> Iterator[Outcome]:
    for folder in folders:
        try:
            # Asking for the permissions would miss full disks and read-only file systems.
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"doctor")
        except OSError as error:
            advice = "change its owner or permissions, or free some space"
            yield Outcome("problem", "write access", f"{folder}: {error.strerror}", advice)


def check_locks(project: Project) -> Iterator[Outcome]:
    """Check that locks work here, and list who holds the run's lock and the device slots."""
    yield from _check_lock_support(project)
    run = project.run_lock
    text = run.read_text(encoding="utf-8") if run.exists() else ""
    if not text:
        yield Outcome("ok", "run lock", "no run is in progress")
    elif is_free(run):
        found = f"left by a run that was killed: {text}"
        yield Outcome("note", "run lock", found, "nothing: the kernel has released the lock")
    else:
        found = f"a run is in progress: {text}"
        yield Outcome("note", "run lock", found, "other runs of this project wait for it")
    slots = [*slots_folder().glob("*.lock")]
    held = [f"{slot.stem} ({holder(slot)})" for slot in sorted(slots) if not is_free(slot)]
    if held:
        yield Outcome("note", "device slots", f"in use: {', '.join(held)}", "more runs wait")
    else:
        yield Outcome("ok", "device slots", "all are free")


def _check_lock_support(project: Project) -> Iterator[Outcome]:
    """Check that a lock keeps others out: some network file systems ignore locks."""
    folder = project.state if project.state.exists() else project.root
    path = folder / f".doctor-{os.getpid()}.lock"
    try:
        with file_lock(path):
            is_ignored = is_free(path)
    except (OSError, NotImplementedError) as error:
        is_ignored = True
        reason = str(error)
    else:
        reason = "a file can be locked twice"
    finally:
        path.unlink(missing_ok=True)
    if is_ignored:
        advice = "two runs could break each other's files: use a local disk for .stockpot"
        yield Outcome("problem", "locks", f"{folder}: {reason}", advice)
    else:
        yield Outcome("ok", "locks", "the file system supports them")


def check_leftovers(project: Project) -> Iterator[Outcome]:
    """Count unused checkpoints and files of killed runs; find a half-made MLflow database."""
    garbage = find_garbage(project)
    if garbage:
        size = sum(path.stat().st_size for path in garbage) / 2**20
        found = f"{len(garbage)} unused files, {size:.1f} MiB"
        yield Outcome("note", "leftovers", found, "`stockpot gc` deletes them")
    else:
        yield Outcome("ok", "leftovers", "none")
    if (project.state / "mlflow.db.making").exists():
        found = "the process that created MLflow's database was killed"
        yield Outcome("note", "leftovers", found, "nothing: the next run creates it again")
