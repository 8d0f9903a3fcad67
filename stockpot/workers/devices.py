"""Devices of a run: one name per worker process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

_NVIDIA = Path("/dev/nvidiactl")  # exists where NVIDIA's driver is loaded


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
