"""Jobs that share their passes with idle workers find what one worker finds, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pass_jobs
import pytest

from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.storage.manifests import read_manifest
from stockpot.storage.models import Model
from stockpot.workers import WorkerLost, WorkerPool

DO = pass_jobs.in_small_batches


@contextmanager
def _pool(num_workers: int, root: Path) -> Iterator[WorkerPool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(root))  # slots of its own
        pool = WorkerPool(["cpu"] * num_workers, threads=1)
        yield pool
        pool.close()


@pytest.fixture
def new_project(finished: Plan, tmp_path: Path) -> Callable[[str], Path]:
    """Return what copies the finished sweep, without what later stages have stored."""

    def copy(name: str) -> Path:
        skipped = shutil.ignore_patterns("passes", "studies", "predictions", "tuned")
        shutil.copytree(finished.project.root, tmp_path / name, ignore=skipped)
        return tmp_path / name

    return copy


def _jobs(finished: Plan, root: Path) -> list[tuple[Callable[..., Any], Any]]:
    ingredients = read_manifest(finished.project.root, "sweep")["ingredients"]
    precheck = finished.precheck_job([Model.from_json(entry) for entry in ingredients])
    tuning, _ = finished.tuning_jobs()
    return [
        (check_ingredients, replace(precheck, root=root)),
        (pass_jobs.search, replace(tuning, root=root)),
    ]


def _passes(root: Path) -> set[str]:
    return {file.name for file in (root / ".stockpot" / "passes").iterdir()}


def test_two_workers_find_the_checks_trials_and_soups_of_one(
    finished: Plan, new_project: Callable[[str], Path]
) -> None:
    roots = new_project("one"), new_project("two")
    results, elsewhere = [], []

    for num_workers, root in enumerate(roots, 1):
        with _pool(num_workers, root) as pool:
            made = [pool.run(DO, function, job, 0.0) for function, job in _jobs(finished, root)]
        results.append([result for result, _ in made])
        elsewhere.append([count > 0 for _, count in made])

    assert results[0] == results[1]
    assert elsewhere == [[False, False], [True, True]]
    assert _passes(roots[0]) == _passes(roots[1])


@pytest.mark.full
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_changes_nothing(
    finished: Plan, new_project: Callable[[str], Path], killed: int
) -> None:
    """The first worker does the search, the second one helps."""
    alone, root = new_project("alone"), new_project("together")
    with _pool(1, alone) as pool:
        _, (function, job) = _jobs(finished, alone)
        expected, _ = pool.run(DO, function, job, 0.0)

    with _pool(2, root) as pool:
        _, (function, job) = _jobs(finished, root)
        threading.Thread(target=_kill, args=(pool, killed, root), daemon=True).start()
        try:
            found, elsewhere = pool.run(DO, function, job, 0.05)
        except WorkerLost:
            assert killed == 0
            found, elsewhere = pool.run(DO, function, job, 0.0)

    assert found == expected
    assert elsewhere > 0


def _kill(pool: WorkerPool, position: int, root: Path) -> None:
    """Kill a worker when some passes have been stored."""
    passes = root / ".stockpot" / "passes"
    while not passes.is_dir() or len([*passes.iterdir()]) < 5:
        time.sleep(0.01)
    pid = pool._workers[position].process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
