"""Worker processes, one per device slot, which do all torch work of a run.

The main process imports no torch. If a worker is lost (killed, out of memory), only its current
job fails, and the worker is replaced; if the main process dies, its workers exit.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from stockpot.storage.device_slots import DeviceSlots

P = ParamSpec("P")
T = TypeVar("T")

_POLL_SECONDS = 0.2
_NVIDIA = Path("/dev/nvidiactl")  # exists where NVIDIA's driver is loaded

# Workers are forked from one process that has imported these modules, which takes 3 s, so that a
# lost worker is replaced at once. That process runs no torch code, so it has no threads and no CUDA
# context that a fork would break. torch's optimizers import `torch._dynamo` on first use.
_IMPORTED_ONCE = ["torch", "torch._dynamo", "safetensors.torch", "optuna"]

# The forking process listens on a socket in the temporary folder. The path of a socket has at most
# 107 bytes, of which 32 are below that folder.
_LONGEST_TEMPORARY_FOLDER = 75


def choose_devices(
    devices: Literal["auto", "cpu"] | Sequence[str], workers: Literal["auto"] | int
) -> list[str]:
    """Return one device name per worker, e.g. `["cuda:0", "cuda:1"]` or `["cpu", "cpu"]`.

    Args:
        devices: auto (every GPU, else the CPU), cpu, or a list of names.
        workers: total number, assigned to the devices in turn; auto: one per GPU or CPU core.
    """
    named = _found() if devices == "auto" else [devices] if isinstance(devices, str) else [*devices]
    cores = len(os.sched_getaffinity(0))
    count = workers if workers != "auto" else cores if named == ["cpu"] else len(named)
    return [named[worker % len(named)] for worker in range(count)]


def _found() -> list[str]:
    """List the GPUs; torch, which takes a second to import, is used only if there may be one."""
    if not _NVIDIA.exists():
        return ["cpu"]
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


class WorkerLost(RuntimeError):
    """A worker process died during a job; a retry may succeed."""


class WorkersStopped(RuntimeError):
    """The run is being stopped; do not retry."""


class WorkerPool:
    """A fixed number of worker processes, each assigned to a device.

    A job takes a worker of this pool and a slot of its device. All projects of this user on this
    machine share the slots, so that two experiments do not train on one GPU at the same time.
    """

    def __init__(self, devices: Sequence[str], threads: int) -> None:
        """Start to import what jobs need; workers start on demand.

        Args:
            devices: such as `["cuda:0", "cuda:1"]` or `["cpu", "cpu"]`; one worker each.
            threads: torch threads per worker.

        Raises:
            InputError: the folder of the slots is not this user's.
        """
        self.devices = list(devices)
        self._slots = DeviceSlots(devices, self._check)
        self._threads = threads
        self._stopped = threading.Event()
        self._workers: dict[int, _Worker] = {}
        self._idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for position in range(len(devices)):
            self._idle.put(position)
        self._is_forking = len(tempfile.gettempdir()) <= _LONGEST_TEMPORARY_FOLDER
        if self._is_forking:
            multiprocessing.set_forkserver_preload(_IMPORTED_ONCE)
            with _ctrl_c_blocked():
                forkserver.ensure_running()

    def run(
        self,
        function: Callable[..., T],
        *arguments: object,
        timeout_seconds: float | None = None,
    ) -> T:
        """Call `function(*arguments, device)` in a worker process and return its result.

        Blocks until a worker and its device are free. Safe from several threads.

        Raises:
            WorkerLost: the worker died.
            TimeoutError: the call exceeded the time limit; its worker was killed.
            WorkersStopped: `stop` was called.
            Exception: any error of the function.
        """
        with self._idle_position() as position:
            device = self.devices[position]
            with self._slots.hold(device):
                worker = self._workers.get(position) or self._start_worker(position)
                try:
                    error, result = worker.call(function, (*arguments, device), timeout_seconds)
                except TimeoutError:
                    worker.process.kill()
                    del self._workers[position]
                    raise
                except (EOFError, OSError) as lost:
                    self._check()
                    del self._workers[position]
                    ended = f"worker process {worker.process.pid} died ({worker.end()})"
                    raise WorkerLost(ended) from lost
            # Outside the `except` above: an OSError of the function does not mean a lost worker.
            if error is not None:
                raise error
            return result

    def stop(self) -> None:
        """Kill all workers; jobs in flight raise WorkersStopped."""
        self._stopped.set()
        for worker in list(self._workers.values()):
            worker.process.kill()
        if self._is_forking:
            _kill_forking_process()

    def close(self) -> None:
        """Let idle workers exit."""
        self._stopped.set()
        for worker in self._workers.values():
            worker.pipe.close()
        for worker in self._workers.values():
            worker.end()

    def _start_worker(self, position: int) -> _Worker:
        try:
            worker = self._workers[position] = _Worker(self._threads, is_fork=self._is_forking)
        except (EOFError, OSError) as error:
            self._check()
            raise WorkerLost(f"a worker process could not be started ({error!r})") from error
        if self._stopped.is_set():  # after the check of this job
            worker.process.kill()
        return worker

    @contextmanager
    def _idle_position(self) -> Iterator[int]:
        position = None
        while position is None:
            self._check()
            with suppress(queue.Empty):
                position = self._idle.get(timeout=_POLL_SECONDS)
        try:
            yield position
        finally:
            self._idle.put(position)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise WorkersStopped("the run is being stopped")


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, threads: int, *, is_fork: bool) -> None:
        fork = multiprocessing.get_context("forkserver")
        context = fork if is_fork else multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
        with _ctrl_c_blocked():
            self.process.start()
        theirs.close()

    def call(
        self, function: Callable[..., T], arguments: tuple[object, ...], seconds: float | None
    ) -> tuple[Exception | None, T]:
        """Return the function's error or None, and its result."""
        self.pipe.send((function, arguments))
        if not self.pipe.poll(seconds):
            raise TimeoutError(f"took longer than {seconds:g} s")
        outcome: tuple[Exception | None, T] = self.pipe.recv()
        return outcome

    def end(self) -> str:
        """Wait for the process and describe how it ended."""
        self.process.join()
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Start processes that inherit a blocked SIGINT: Ctrl-C is for the main process."""
    resource_tracker.ensure_running()  # started inside the block, it would unblock the signal
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)


def _kill_forking_process() -> None:
    """Kill the process that forks workers: threads wait for it, maybe while it imports torch."""
    # A thread that starts a worker at this moment makes a new one, which must not import anything.
    multiprocessing.set_forkserver_preload([])
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # there is no API for it
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _serve(pipe: Connection, threads: int) -> None:
    """Run jobs until the pipe is closed; the main function of a worker process."""
    # Ctrl-C signals the whole process group; the main process decides whether to stop workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        outcome = _outcome(function, arguments)
        try:
            pipe.send(outcome)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            pipe.send((TypeError(f"a job's result cannot be sent: {error}"), None))


def _end_with(parent: Any) -> None:
    """Exit as soon as the parent has died."""
    parent.join()
    os._exit(1)


def _outcome(
    function: Callable[..., object], arguments: tuple[object, ...]
) -> tuple[Exception | None, object]:
    try:
        return None, function(*arguments)
    except Exception as error:  # noqa: BLE001 (it is re-raised in the main process)
        sent = _sendable(error)
        sent.add_note("in a worker process:\n" + traceback.format_exc())
        return sent, None


def _sendable(error: Exception) -> Exception:
    """Return the error, or one with its text if it cannot be pickled and unpickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes)
    except Exception:  # noqa: BLE001 (anything its constructor does)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
