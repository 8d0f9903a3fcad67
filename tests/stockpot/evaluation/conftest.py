from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from stockpot.models import Model
from stockpot.store import Store
from stockpot.workloads.spec import WorkloadSpec


@pytest.fixture
def make_spec() -> Callable[..., WorkloadSpec]:
    """Return what describes the toy workload, with one val shift and two test shifts."""

    def make(**options: Any) -> WorkloadSpec:
        return WorkloadSpec(
            "toy_workload:Toy",
            seed=0,
            val_shifts=("near",),
            test_shifts=("a", "far away"),
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
