"""Idle workers help a job that asks for it, and nothing of the result depends on them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pass_jobs
import pytest
import worker_jobs

from stockpot.workers import WorkerPool
from stockpot.workloads.spec import WorkloadSpec

SQUARES = [9, 25, 49, 81, 121]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    """Return a pool of two workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("slots")))
        opened = WorkerPool(["cpu", "cpu"], threads=1)
        yield opened
        opened.close()


@pytest.mark.parametrize(
    "elsewhere",
    [
        worker_jobs.square,
        worker_jobs.square_by_sharing,
        worker_jobs.kill_helper,
        worker_jobs.fail_elsewhere,
    ],
)
def test_items_are_done_once_each_in_order_also_if_a_helper_dies_or_fails(
    pool: WorkerPool, tmp_path: Path, elsewhere: Callable[..., int]
) -> None:
    assert pool.run(worker_jobs.share_squares, elsewhere, tmp_path) == SQUARES

    done = [file.name.split() for file in tmp_path.iterdir()]
    assert len({process for _, process in done}) >= 2
    if elsewhere in {worker_jobs.square, worker_jobs.square_by_sharing}:
        assert sorted(int(item) for item, _ in done) == [3, 5, 7, 9, 11]


def test_a_worker_that_helped_does_the_next_job(pool: WorkerPool, tmp_path: Path) -> None:
    pool.run(worker_jobs.share_squares, worker_jobs.kill_helper, tmp_path)

    assert {pool.run(worker_jobs.echo, number)[0] for number in range(4)} == {0, 1, 2, 3}


def test_a_helper_that_is_frozen_is_killed_when_the_time_of_the_job_is_up(
    pool: WorkerPool, tmp_path: Path
) -> None:
    with pytest.raises(TimeoutError, match=r"^took longer than 1\.5 s$"):
        pool.run(
            worker_jobs.share_squares, worker_jobs.freeze_helper, tmp_path, timeout_seconds=1.5
        )

    assert {pool.run(worker_jobs.echo, number)[0] for number in range(4)} == {0, 1, 2, 3}


def test_a_job_that_waits_gets_the_worker_of_a_helper(pool: WorkerPool, tmp_path: Path) -> None:
    (tmp_path / "squares").mkdir()
    started = tmp_path / "started"
    with ThreadPoolExecutor() as threads:
        sharing = threads.submit(
            pool.run, worker_jobs.share_until_started, tmp_path / "squares", started
        )
        while not sharing.done() and not any((tmp_path / "squares").iterdir()):
            pass

        pool.run(worker_jobs.sleep, 0.0, started)

        assert sharing.result() == [number * number for number in range(100)]


def test_no_worker_is_idle_while_another_job_runs(pool: WorkerPool, tmp_path: Path) -> None:
    assert pool.run(worker_jobs.count_idle) == 1
    with ThreadPoolExecutor() as threads:
        other = threads.submit(pool.run, worker_jobs.sleep, 0.5, tmp_path / "started")
        while not (tmp_path / "started").exists():
            pass
        assert pool.run(worker_jobs.count_idle) == 0
        other.result()


def test_outside_of_a_worker_nobody_helps(tmp_path: Path) -> None:
    assert worker_jobs.count_idle("cpu") == 0
    assert worker_jobs.share([3, 5], lambda item: item * item, worker_jobs.square) == [9, 25]
    assert not [*tmp_path.iterdir()]


def test_steps_of_a_job_are_reported(pool: WorkerPool) -> None:
    steps: list[tuple[int, int]] = []

    result = pool.run(worker_jobs.do_steps, on_step=lambda done, of: steps.append((done, of)))

    assert result == "cpu"
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_job_whose_progress_cannot_be_shown_leaves_nothing_to_the_next(pool: WorkerPool) -> None:
    def fail(done: int, of: int) -> None:
        raise OSError(f"no space left to show {done} of {of}")

    with pytest.raises(OSError, match=r"^no space left to show 1 of 3$"):
        pool.run(worker_jobs.do_steps, on_step=fail)

    assert [pool.run(worker_jobs.echo, number)[0] for number in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("work", [pass_jobs.pass_over_val, pass_jobs.pass_over_block])
def test_a_pass_of_two_workers_has_the_bits_of_one(
    pool: WorkerPool, work: Callable[..., tuple[bytes, ...]]
) -> None:
    spec, do = WorkloadSpec("digits", 0), pass_jobs.in_small_batches
    one = WorkerPool(["cpu"], threads=1)

    alone, none_elsewhere = one.run(do, work, spec, 0.0)
    together, elsewhere = pool.run(do, work, spec, 0.02)

    one.close()
    assert none_elsewhere == 0 < elsewhere
    assert together == alone
