"""Disk, memory and devices against what params.yaml needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from stockpot.experiment.doctor import forecast
from stockpot.experiment.doctor.devices import check_devices
from stockpot.experiment.doctor.forecast import (
    check_disk,
    check_memory,
    free_memory,
    model_bytes,
    models_to_make,
)
from stockpot.experiment.plan import Plan

MakePlan = Callable[..., Plan]


def test_the_size_of_a_model_is_that_of_its_weights(new_plan: Plan) -> None:
    parameters = new_plan.workload.build().build_model
    import torch

    state = parameters(torch.Generator()).state_dict()

    assert model_bytes(new_plan) == sum(tensor.nbytes for tensor in state.values())


def test_models_to_make_are_those_of_stages_that_are_not_done(
    make_new_plan: MakePlan, plan: Plan
) -> None:
    # base, 4 ingredients, 2 soups, 1 tuned
    assert models_to_make(make_new_plan()) == 8
    assert models_to_make(make_new_plan("sweep.size=10", "sweep.snapshots=1", "tune=[]")) == 23
    assert models_to_make(plan) == 0  # of a finished experiment


@pytest.mark.parametrize(("share", "level"), [(0.5, "problem"), (1.5, "note"), (2.5, "ok")])
def test_the_free_disk_is_compared_with_the_weights_to_make(
    new_plan: Plan, monkeypatch: pytest.MonkeyPatch, share: float, level: str
) -> None:
    needed = model_bytes(new_plan) * (8 + 2 * 4)  # two workers keep the state of a training
    usage = SimpleNamespace(free=int(share * needed))
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda _path: usage)

    (outcome,) = check_disk(new_plan)

    assert outcome.level == level
    assert "8 models to make" in outcome.found


def test_more_workers_than_the_memory_holds_are_a_problem(
    make_new_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "free_memory", lambda: 2**30)

    (few,) = check_memory(make_new_plan("run.workers=2"))
    (many,) = check_memory(make_new_plan("run.workers=3"))

    assert (few.level, many.level) == ("ok", "problem")
    assert many.advice == "set a smaller run.workers"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max", 4096 * 1024), (str(3 * 2**20), 2**20 + 4096), (str(2**40), 2**22)],
)
def test_the_free_memory_is_that_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9999 kB\nMemAvailable: 4096 kB\n")
    (tmp_path / "max").write_text(f"{limit}\n")
    (tmp_path / "current").write_text(f"{2 * 2**20}\n")
    (tmp_path / "stat").write_text("anon 77\ninactive_file 4096\nactive_file 99\n")
    monkeypatch.setattr(forecast, "_MEMORY_STAT", tmp_path / "stat")
    monkeypatch.setattr(forecast, "_MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(forecast, "_MEMORY_LIMIT", tmp_path / "max")
    monkeypatch.setattr(forecast, "_MEMORY_USED", tmp_path / "current")

    assert free_memory() == expected


def test_a_device_that_does_not_exist_is_a_problem(make_new_plan: MakePlan) -> None:
    (outcome,) = check_devices(make_new_plan("run.devices=[cuda:77]"))

    assert outcome.level == "problem"
    assert outcome.found.startswith("cuda:77: ")


def test_more_threads_than_cores_are_noted(make_new_plan: MakePlan) -> None:
    cores = len(os.sched_getaffinity(0))

    (outcome,) = check_devices(make_new_plan(f"run.workers={cores + 1}"))
    (fitting,) = check_devices(make_new_plan("run.workers=1"))

    assert outcome.level == "note"
    assert outcome.found.endswith(f"{cores} CPU cores for {cores + 1} threads")
    assert fitting.level == "ok"
