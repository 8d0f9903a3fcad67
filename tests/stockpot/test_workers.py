from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

import pytest
import worker_jobs

from stockpot.workers import WorkerLost, WorkerPool, WorkersStopped, process

SUPPORT = Path(worker_jobs.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def own_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the device slots of these tests apart from those of other runs on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("slots")))
        yield


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """Return a pool of one worker, which tests may lose: it is replaced."""
    opened = WorkerPool(["cpu"], threads=1)
    yield opened
    opened.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def _wait_until(claim: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_job_gets_its_arguments_and_the_device_and_its_result_comes_back(
    pool: WorkerPool,
) -> None:
    assert pool.run(worker_jobs.echo, {"a": [1, 2.5]}) == ({"a": [1, 2.5]}, "cpu")


def test_a_job_runs_in_another_process_which_stays(pool: WorkerPool) -> None:
    first = pool.run(worker_jobs.process_id)

    assert first != os.getpid()
    assert pool.run(worker_jobs.process_id) == first


def test_torch_has_the_threads_it_was_given(pool: WorkerPool) -> None:
    assert pool.run(worker_jobs.num_threads) == 1


def test_an_exception_keeps_its_type_message_and_place(pool: WorkerPool) -> None:
    with pytest.raises(worker_jobs.OddError) as caught:
        pool.run(worker_jobs.fail, "what went wrong")

    assert str(caught.value) == "what went wrong"
    [note] = caught.value.__notes__
    assert note.startswith("in a worker process:\nTraceback")
    assert "in fail\n" in note


def test_an_exception_that_cannot_be_sent_keeps_its_words(pool: WorkerPool) -> None:
    before = pool.run(worker_jobs.process_id)

    with pytest.raises(RuntimeError, match=r"^UnreadableError: what went wrong \(3\)") as caught:
        pool.run(worker_jobs.fail_unreadably)

    assert "in fail_unreadably\n" in caught.value.__notes__[0]
    assert pool.run(worker_jobs.process_id) == before


def test_a_result_that_cannot_be_sent_is_an_error_of_the_job(pool: WorkerPool) -> None:
    before = pool.run(worker_jobs.process_id)

    with pytest.raises(TypeError, match=r"^a job's result cannot be sent: cannot pickle"):
        pool.run(worker_jobs.return_a_lock)

    assert pool.run(worker_jobs.process_id) == before


def test_an_os_error_of_a_job_is_no_lost_worker(pool: WorkerPool) -> None:
    before = pool.run(worker_jobs.process_id)

    with pytest.raises(FileNotFoundError, match="/no/such/file"):
        pool.run(worker_jobs.open_missing_file)

    assert pool.run(worker_jobs.process_id) == before


@pytest.mark.parametrize(
    ("job", "end"), [(worker_jobs.kill_itself, "signal 9"), (worker_jobs.leave, "exit code 7")]
)
def test_a_worker_that_dies_is_lost_and_replaced(
    pool: WorkerPool, job: Callable[[str], None], end: str
) -> None:
    lost = pool.run(worker_jobs.process_id)

    with pytest.raises(WorkerLost, match=rf"^worker process {lost} died \({end}\)$"):
        pool.run(job)

    assert pool.run(worker_jobs.process_id) != lost


def test_a_worker_that_died_while_idle_is_lost_and_replaced(pool: WorkerPool) -> None:
    lost = pool.run(worker_jobs.process_id)
    os.kill(lost, signal.SIGKILL)
    assert _wait_until(lambda: _has_ended(lost))

    with pytest.raises(WorkerLost, match="signal 9"):
        pool.run(worker_jobs.process_id)

    assert pool.run(worker_jobs.process_id) != lost


def test_a_job_that_takes_too_long_is_killed(pool: WorkerPool, tmp_path: Path) -> None:
    pool.run(worker_jobs.process_id)

    with pytest.raises(TimeoutError, match=r"^took longer than 0\.3 s$"):
        pool.run(worker_jobs.sleep, 60, tmp_path / "started", timeout_seconds=0.3)

    killed = int((tmp_path / "started").read_text())
    assert _wait_until(lambda: _has_ended(killed))
    assert pool.run(worker_jobs.process_id) != killed


def test_two_pools_do_not_use_one_device_at_once(
    pool: WorkerPool, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    other = WorkerPool(["cpu"], threads=1)
    first = threads.submit(pool.run, worker_jobs.sleep, 0.5, tmp_path / "first")
    assert _wait_until((tmp_path / "first").exists)

    second = other.run(worker_jobs.sleep, 0.0, tmp_path / "second")

    other.close()
    assert second[0] >= first.result()[1]


def test_two_workers_work_side_by_side_and_close_ends_them(
    threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    pool = WorkerPool(["cpu", "cpu"], threads=1)
    started = [tmp_path / "first", tmp_path / "second"]
    futures = [threads.submit(pool.run, worker_jobs.sleep, 1.0, path) for path in started]

    (start_a, end_a), (start_b, end_b) = [future.result() for future in futures]
    pids = [int(path.read_text()) for path in started]
    pool.close()

    assert max(start_a, start_b) < min(end_a, end_b)
    assert len(set(pids)) == 2
    assert all(_wait_until(lambda pid=pid: _has_ended(pid)) for pid in pids)
    with pytest.raises(WorkersStopped):
        pool.run(worker_jobs.process_id)


def _end_forking_process() -> None:
    """End the process that forks workers, as `stop` does; the next pool starts another."""
    pool = WorkerPool(["cpu"], threads=1)
    pid = forkserver._forkserver._forkserver_pid
    pool.stop()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _error_of(future: Future[object], seconds: float) -> BaseException | None:
    return future.exception(timeout=seconds)


def test_stop_ends_jobs_in_flight_and_those_that_wait(
    pool: WorkerPool, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    stopped = WorkerPool(["cpu"], threads=1)
    in_flight = threads.submit(stopped.run, worker_jobs.sleep, 60, tmp_path / "in flight")
    assert _wait_until((tmp_path / "in flight").exists)
    for_a_worker = threads.submit(stopped.run, worker_jobs.process_id)
    time.sleep(0.3)
    start = time.monotonic()

    stopped.stop()

    errors = [_error_of(future, 5) for future in (in_flight, for_a_worker)]
    assert [type(error) for error in errors] == [WorkersStopped, WorkersStopped]
    assert time.monotonic() - start < 2
    assert _wait_until(lambda: _has_ended(int((tmp_path / "in flight").read_text())))
    assert pool.run(worker_jobs.echo, 1) == (1, "cpu")


def test_stop_ends_the_start_of_a_worker_that_waits_for_slow_imports(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Under load torch takes long to import; an interrupt does not wait for it."""
    (tmp_path / "slow_import.py").write_text("import time\n\ntime.sleep(60)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(process, "_IMPORTED_ONCE", ["slow_import"])
    _end_forking_process()
    stopped = WorkerPool(["cpu"], threads=1)
    starting = threads.submit(stopped.run, worker_jobs.process_id)
    time.sleep(0.5)
    start = time.monotonic()

    stopped.stop()

    assert isinstance(_error_of(starting, 5), WorkersStopped)
    assert time.monotonic() - start < 2
    _end_forking_process()


def test_stop_ends_a_wait_for_a_device(
    pool: WorkerPool, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    waiting = WorkerPool(["cpu"], threads=1)
    holder = threads.submit(pool.run, worker_jobs.sleep, 1.5, tmp_path / "holder")
    assert _wait_until((tmp_path / "holder").exists)
    for_a_device = threads.submit(waiting.run, worker_jobs.process_id)
    time.sleep(0.1)

    waiting.stop()

    assert isinstance(_error_of(for_a_device, 1), WorkersStopped)
    assert not holder.done()


MAIN_PROCESS = """
import sys
from pathlib import Path
import worker_jobs
from stockpot.workers import WorkerPool

pool = WorkerPool(["cpu"], threads=1)
print(pool.run(worker_jobs.process_id), flush=True)
if sys.argv[1:]:
    pool.run(worker_jobs.sleep, 60, Path(sys.argv[1]))
sys.stdin.readline()
"""


@pytest.mark.parametrize("busy", [True, False])
def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path, busy: bool) -> None:
    started = tmp_path / "started"
    environment = os.environ | {"PYTHONPATH": str(SUPPORT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", MAIN_PROCESS, *([str(started)] if busy else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        at_work = not busy or _wait_until(started.exists)
        alive_before = not _has_ended(worker)

        parent.kill()

        assert at_work
        assert alive_before
        assert _wait_until(lambda: _has_ended(worker), seconds=5)


def test_ctrl_c_is_left_to_the_main_process(pool: WorkerPool) -> None:
    worker = pool.run(worker_jobs.process_id)

    os.kill(worker, signal.SIGINT)

    assert pool.run(worker_jobs.process_id) == worker


def test_jobs_of_many_threads_all_come_back_to_their_own(pool: WorkerPool) -> None:
    results: dict[int, object] = {}

    def work(number: int) -> None:
        results[number] = pool.run(worker_jobs.echo, number)[0]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()

    assert results == {number: number for number in range(12)}


def test_a_long_temporary_folder_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("a folder whose name is long" * 4)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    pool = WorkerPool(["cpu"], threads=1)

    assert pool.run(worker_jobs.echo, 1) == (1, "cpu")

    pool.close()
