"""What the tests let worker processes do; each job gets the device as its last argument."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path


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
