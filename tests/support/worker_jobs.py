"""What the tests let worker processes do; each job gets the device as its last argument."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stockpot.workers.inside import idle_workers, in_steps, share


class OddError(Exception):
    """An error of the user's own."""


class UnreadableError(Exception):
    """An error that pickle writes, and cannot read: its class wants two arguments."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")


def process_id(device: str) -> int:  # noqa: ARG001 (the form of a job)
    return os.getpid()


def echo(value: object, device: str) -> tuple[object, str]:
    return value, device


def num_threads(device: str) -> int:  # noqa: ARG001 (the form of a job)
    import torch

    return torch.get_num_threads()


def fail(message: str, device: str) -> None:  # noqa: ARG001 (the form of a job)
    raise OddError(message)


def fail_unreadably(device: str) -> None:  # noqa: ARG001 (the form of a job)
    raise UnreadableError(3, "what went wrong")


def open_missing_file(device: str) -> None:  # noqa: ARG001 (the form of a job)
    Path("/no/such/file").read_bytes()


def return_a_lock(device: str) -> object:  # noqa: ARG001 (the form of a job)
    return threading.Lock()


def kill_itself(device: str) -> None:  # noqa: ARG001 (the form of a job)
    os.kill(os.getpid(), signal.SIGKILL)


def leave(device: str) -> None:  # noqa: ARG001 (the form of a job)
    os._exit(7)


def sleep(seconds: float, started: Path, device: str) -> tuple[float, float]:  # noqa: ARG001 (the form of a job)
    """Say by a file that it has started; return when it started and ended."""
    start = time.monotonic()
    started.write_text(str(os.getpid()))
    time.sleep(seconds)
    return start, time.monotonic()


def square(folder: Path, item: int, device: str) -> int:  # noqa: ARG001 (the form of a job)
    """Leave a file named for this process, which others can wait for."""
    (folder / f"{item} {os.getpid()}").touch()
    return item * item


def kill_helper(folder: Path, item: int, device: str) -> int:
    square(folder, item, device)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def fail_elsewhere(folder: Path, item: int, device: str) -> int:
    square(folder, item, device)
    raise OddError(str(item))


def square_by_sharing(folder: Path, item: int, device: str) -> int:
    [result] = share([item], lambda one: square(folder, one, device), partial(square, folder))
    return result


def freeze_helper(folder: Path, item: int, device: str) -> int:
    square(folder, item, device)
    os.kill(os.getpid(), signal.SIGSTOP)
    return 0


def square_slowly(folder: Path, item: int, device: str) -> int:
    time.sleep(0.1)
    return square(folder, item, device)


def share_until_started(folder: Path, started: Path, device: str) -> list[int]:  # noqa: ARG001 (the form of a job)
    """Square many numbers; wait with the first until another job has started."""

    def here(item: int) -> int:
        deadline = time.monotonic() + 5
        while not started.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the other job has not started")
            time.sleep(0.01)
        return item * item

    return share(range(100), here, partial(square_slowly, folder))


def share_squares(
    elsewhere: Callable[[Path, int, str], int], folder: Path, device: str
) -> list[int]:
    """Square five numbers; wait with the first until an idle worker has taken one."""

    def here(item: int) -> int:
        square(folder, item, device)
        deadline = time.monotonic() + 20
        while len({file.name.split()[1] for file in folder.iterdir()}) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("no other worker came")
            time.sleep(0.01)
        return item * item

    return share([3, 5, 7, 9, 11], here, partial(elsewhere, folder))


def count_idle(device: str) -> int:  # noqa: ARG001 (the form of a job)
    return idle_workers()


def do_steps(device: str) -> str:
    for _ in in_steps("abc"):
        pass
    return device
