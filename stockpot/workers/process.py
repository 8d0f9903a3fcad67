"""A worker process: it is forked, does one job after the other, and ends with its parent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from stockpot.workers.inside import Request, Step, connect

T = TypeVar("T")

# Workers are forked from one process that has imported these modules, which takes 3 s, so that a
# lost worker is replaced at once. That process runs no torch code, so it has no threads and no CUDA
# context that a fork would break. torch's optimizers import `torch._dynamo` on first use.
_IMPORTED_ONCE = ["torch", "torch._dynamo", "safetensors.torch", "optuna"]


def start_forking_process() -> None:
    """Start to import what jobs need."""
    multiprocessing.set_forkserver_preload(_IMPORTED_ONCE)
    with _ctrl_c_blocked():
        forkserver.ensure_running()


class ProcessDied(Exception):
    """The process of a worker died during a call."""


class Worker:
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
        self,
        function: Callable[..., T],
        arguments: tuple[object, ...],
        answer: Callable[[Request], object],
        seconds: float | None = None,
    ) -> tuple[Exception | None, T]:
        """Return the function's error or None, and its result; answer its requests meanwhile.

        Raises:
            TimeoutError: the call takes longer than `seconds`.
            ProcessDied: the process has died.
            Exception: any error of `answer`; then the process waits for the answer.
        """
        self._send((function, arguments))
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            if not self.pipe.poll(deadline and max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"took longer than {seconds:g} s")
            message = self._receive()
            if not isinstance(message, Request):
                outcome: tuple[Exception | None, T] = message
                return outcome
            reply = answer(message)
            if not isinstance(message, Step):
                self._send(reply)

    def _send(self, message: object) -> None:
        try:
            self.pipe.send(message)
        except OSError as error:
            raise ProcessDied from error

    def _receive(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            raise ProcessDied from error

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


def kill_forking_process() -> None:
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
    connect(pipe)
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
