"""A pool of worker processes.

The main process imports no torch. If a worker is lost (killed, out of memory), only its current
job fails, and the worker is replaced; if the main process dies, its workers exit.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

from stockpot.storage.device_slots import DeviceSlots
from stockpot.workers.inside import Request
from stockpot.workers.lending import Lending, Share, helps_only
from stockpot.workers.process import (
    ProcessDied,
    Worker,
    kill_forking_process,
    start_forking_process,
)

T = TypeVar("T")

_POLL_SECONDS = 0.2

# The forking process listens on a socket in the temporary folder. The path of a socket has at most
# 107 bytes, of which 32 are below that folder.
_LONGEST_TEMPORARY_FOLDER = 75


class WorkerLost(RuntimeError):
    """A worker process died during a job; a retry may succeed."""


class WorkersStopped(RuntimeError):
    """The run is being stopped; do not retry."""


class WorkerPool:
    """A fixed number of worker processes, each assigned to a device.

    A job takes a worker of this pool and a slot of its device. All projects of this user on this
    machine share the slots, so that two experiments do not train on one GPU at the same time. While
    no job waits, idle workers help the jobs that ask for it (`stockpot.workers.inside`).
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
        self._workers: dict[int, Worker] = {}
        self._idle = [*range(len(devices))]
        self._waiting = 0  # jobs that have no worker yet
        self._changed = threading.Condition()
        self._is_forking = len(tempfile.gettempdir()) <= _LONGEST_TEMPORARY_FOLDER
        if self._is_forking:
            start_forking_process()

    def run(
        self,
        function: Callable[..., T],
        *arguments: object,
        timeout_seconds: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> T:
        """Call `function(*arguments, device)` in a worker process and return its result.

        Blocks until a worker and its device are free. Safe from several threads.

        Args:
            function: the job.
            arguments: of the job, but the last one.
            timeout_seconds: after which its worker is killed, and those that help it are.
            on_step: called with the number of steps that a long job has done, and has in all.

        Raises:
            WorkerLost: the worker died.
            TimeoutError: the call exceeded the time limit; its worker was killed.
            WorkersStopped: `stop` was called.
            Exception: any error of the function.
        """
        with self._idle_position() as position, self._slots.hold(self.devices[position]):
            end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
            idle, help_with = partial(self._lendable, position), partial(self._lend, position, end)
            with Lending(lambda: len(idle()), help_with, on_step) as lending:
                return self._call(position, function, arguments, lending.answer, timeout_seconds)

    def stop(self) -> None:
        """Kill all workers; jobs in flight raise WorkersStopped."""
        self._stopped.set()
        for worker in list(self._workers.values()):
            worker.process.kill()
        if self._is_forking:
            kill_forking_process()

    def close(self) -> None:
        """Let idle workers exit."""
        self._stopped.set()
        workers = list(self._workers.values())
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.end()

    def _call(
        self,
        position: int,
        function: Callable[..., T],
        arguments: Sequence[object],
        answer: Callable[[Request], object],
        timeout_seconds: float | None = None,
    ) -> T:
        worker = self._workers.get(position) or self._start_worker(position)
        given = (*arguments, self.devices[position])
        try:
            error, result = worker.call(function, given, answer, timeout_seconds)
        except ProcessDied as lost:
            self._check()
            del self._workers[position]
            ended = f"worker process {worker.process.pid} died ({worker.end()})"
            raise WorkerLost(ended) from lost
        except BaseException:  # it is late, or one of its requests is not answered
            worker.process.kill()
            del self._workers[position]
            raise
        # Outside the `except` above: an OSError of the function does not mean a lost worker.
        if error is not None:
            raise error
        return result

    def _start_worker(self, position: int) -> Worker:
        try:
            worker = self._workers[position] = Worker(self._threads, is_fork=self._is_forking)
        except (EOFError, OSError) as error:
            self._check()
            raise WorkerLost(f"a worker process could not be started ({error!r})") from error
        if self._stopped.is_set():  # after the check of this job
            worker.process.kill()
        return worker

    @contextmanager
    def _idle_position(self) -> Iterator[int]:
        with self._changed:
            self._waiting += 1
            try:
                while not self._idle:
                    self._check()
                    self._changed.wait(_POLL_SECONDS)
                self._check()
                position = self._idle.pop(0)
            finally:
                self._waiting -= 1
        try:
            yield position
        finally:
            self._give_back(position)

    def _give_back(self, position: int) -> None:
        with self._changed:
            self._idle.append(position)
            self._changed.notify()

    def _lendable(self, position: int) -> list[int]:
        """List idle positions on devices of the same kind; none while a job waits for one."""
        kind, _, _ = self.devices[position].partition(":")
        if self._waiting or self._stopped.is_set():
            return []
        return [one for one in self._idle if self.devices[one].partition(":")[0] == kind]

    def _lend(self, position: int, end: float | None, share: Share) -> None:
        """Have idle workers do items of a job until its time is up, each in a thread of its own."""
        with self._changed:
            lent = self._lendable(position)[: len(share.items) - 1]
            for one in lent:
                self._idle.remove(one)
        for one in lent:
            threading.Thread(target=self._help, args=(one, end, share), daemon=True).start()

    def _help(self, position: int, end: float | None, share: Share) -> None:
        try:
            # Whatever goes wrong, the job does the item itself, and meets the error there.
            with suppress(Exception), self._slots.hold(self.devices[position], share.check_open):
                while not self._waiting:  # real jobs have precedence
                    with share.lent() as place:
                        do, item = share.function, share.items[place]
                        left = None if end is None else max(0.0, end - time.monotonic())
                        share.keep(place, self._call(position, do, [item], helps_only, left))
        finally:
            self._give_back(position)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise WorkersStopped("the run is being stopped")
