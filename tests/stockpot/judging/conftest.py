from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_workload import Toy
from written_predictions import KINDS, RIGHT, keep_predictions, outputs_of, targets_of

from stockpot.judging.job import JudgingJob
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.protocol import Batch
from stockpot.workloads.spec import WorkloadSpec


@pytest.fixture
def make_spec() -> Callable[..., WorkloadSpec]:
    """Return what describes the toy workload, with one val shift and two test shifts."""

    def make(test_shifts: tuple[str, ...] = ("a", "far away"), **options: Any) -> WorkloadSpec:
        return WorkloadSpec(
            "toy_workload:Toy",
            seed=0,
            val_shifts=("near",),
            test_shifts=test_shifts,
            options=tuple(sorted(options.items())),
        )

    return make


@pytest.fixture
def save_model(tmp_path: Path) -> Callable[..., Model]:
    """Return what puts a linear model of the toy workload into a store."""

    def save(
        weight: Tensor, name: str = "ingredient-00", kind: str = "ingredient", val: float = 0.5
    ) -> Model:
        key = name.replace(" ", "-")
        model = Store(tmp_path).save(kind, key, name, {"weight": weight}, {})
        return model.scored({"val/accuracy": val})

    return save


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each forward pass of the toy workload: of how many examples."""
    counted: list[int] = []
    forward = Toy.forward

    def count(workload: Toy, model: nn.Module, batch: Batch) -> Tensor:
        counted.append(len(batch[0]))
        return forward(workload, model, batch)

    monkeypatch.setattr(Toy, "forward", count)
    return counted


@pytest.fixture
def job(
    tmp_path: Path, make_spec: Callable[..., WorkloadSpec], save_model: Callable[..., Model]
) -> JudgingJob:
    """Four models with written predictions; ingredient-00 is more certain than ingredient-01."""
    spec = make_spec()
    targets = targets_of(spec)
    models = []
    for number, (name, right) in enumerate(RIGHT.items()):
        weight = torch.full((2, 2), float(number))
        val = sum(right["val"]) / 6
        model = save_model(weight, name, KINDS.get(name, "soup"), val=val)
        margin = 3.0 if name == "ingredient-00" else 1.0
        keep_predictions(
            tmp_path, spec, model, {n: outputs_of(targets[n], right[n], margin) for n in right}
        )
        models.append(model)
    return JudgingJob(tmp_path, spec, tuple(models), bootstrap=200, confidence=0.9)
