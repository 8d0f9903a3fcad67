from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from stockpot.workers import choose_devices, devices

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("named", "workers", "expected"),
    [
        ("cpu", 3, ["cpu", "cpu", "cpu"]),
        ("cpu", "auto", ["cpu"] * CORES),
        (["cuda:0", "cuda:1"], "auto", ["cuda:0", "cuda:1"]),
        (["cuda:0", "cuda:1"], 3, ["cuda:0", "cuda:1", "cuda:0"]),
        (["cuda:0", "cuda:1"], 1, ["cuda:0"]),
        (["cpu"], "auto", ["cpu"] * CORES),
        (["cuda:2"], 2, ["cuda:2", "cuda:2"]),
    ],
)
def test_workers_are_dealt_over_the_devices(
    named: Sequence[str], workers: int, expected: list[str]
) -> None:
    assert choose_devices(named, workers) == expected


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_NVIDIA", Path("/no/such/device"))

    assert choose_devices("auto", 2) == ["cpu", "cpu"]


def test_auto_is_every_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "_NVIDIA", tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    assert choose_devices("auto", "auto") == ["cuda:0", "cuda:1"]


def test_a_driver_without_a_gpu_leaves_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "_NVIDIA", tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    assert choose_devices("auto", 1) == ["cpu"]
