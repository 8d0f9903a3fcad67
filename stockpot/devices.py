"""Which devices a run uses, and how many workers on each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

_NVIDIA = Path("/dev/nvidiactl")  # there is one where NVIDIA's driver is


def choose_devices(
    devices: Literal["auto", "cpu"] | Sequence[str], workers: Literal["auto"] | int
) -> list[str]:
    """Return one device name a worker, e.g. `["cuda:0", "cuda:1"]` or `["cpu", "cpu"]`.

    Args:
        devices: auto (every GPU, else the CPU), cpu, or a list of names.
        workers: how many in all, dealt over the devices in turn; auto is one a GPU or CPU core.
    """
    named = _found() if devices == "auto" else [devices] if isinstance(devices, str) else [*devices]
    cores = len(os.sched_getaffinity(0))
    count = workers if workers != "auto" else cores if named == ["cpu"] else len(named)
    return [named[worker % len(named)] for worker in range(count)]


def _found() -> list[str]:
    """Find the GPUs without importing torch, which would cost a second for nothing on a CPU."""
    if not _NVIDIA.exists():
        return ["cpu"]
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]
