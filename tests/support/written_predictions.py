"""Predictions that are written by hand, and what a verdict says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stockpot.scoring.predictions import predictions_path, targets_path
from stockpot.scoring.stored_tensors import write_tensors
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

# Of each of the 6 val and 4 test examples: is the model right? 1 yes, 0 no.
RIGHT = {
    "base": {
        "val": [1, 0, 0, 0, 0, 0],
        "test": [1, 0, 0, 0],
        "val_shift/near": [0, 0, 0, 0, 0, 0],
        "test_shift/a": [0, 0, 0, 1],
        "test_shift/far away": [0, 0, 0, 0],
    },
    "ingredient-00": {
        "val": [1, 1, 1, 0, 0, 0],
        "test": [1, 1, 0, 0],
        "val_shift/near": [1, 0, 0, 0, 0, 0],
        "test_shift/a": [1, 0, 0, 0],
        "test_shift/far away": [0, 0, 0, 0],
    },
    "ingredient-01": {
        "val": [1, 1, 1, 1, 0, 0],
        "test": [1, 0, 1, 0],
        "val_shift/near": [1, 1, 0, 0, 0, 0],
        "test_shift/a": [0, 1, 0, 0],
        "test_shift/far away": [0, 1, 1, 0],
    },
    "soup": {
        "val": [1, 1, 1, 1, 1, 0],
        "test": [1, 1, 1, 0],
        "val_shift/near": [1, 1, 1, 0, 0, 0],
        "test_shift/a": [1, 1, 0, 0],
        "test_shift/far away": [0, 1, 1, 1],
    },
}

KINDS = {"base": "base", "ingredient-00": "ingredient", "ingredient-01": "ingredient"}


def outputs_of(targets: Tensor, right: Sequence[int], margin: float) -> Tensor:
    """Put a margin between the two classes, on the target's side where the model is right."""
    sides = torch.where(torch.tensor(right) == 1, targets, 1 - targets)
    return margin * torch.nn.functional.one_hot(sides, 2).float()


def targets_of(spec: WorkloadSpec) -> dict[str, Tensor]:
    workload = spec.build()
    splits = {name: workload.dataset(name) for name in ("val", "test")}
    shifts = {f"{s.split}_shift/{n}": s.dataset() for n, s in workload.shifts().items()}
    return {name: dataset.tensors[1] for name, dataset in (splits | shifts).items()}


def keep_predictions(
    root: Path, spec: WorkloadSpec, model: Model, outputs: dict[str, Tensor]
) -> None:
    """Write predictions as if the model had made them."""
    for name, targets in targets_of(spec).items():
        kept = {"outputs": outputs[name], "losses": torch.zeros(len(targets))}
        write_tensors(predictions_path(root, spec, model.digest, name), kept)
        write_tensors(targets_path(root, spec, name), {"targets": targets})


def metrics_of(evaluation: dict[str, Any], name: str) -> dict[str, float]:
    [metrics] = [model["metrics"] for model in evaluation["models"] if model["name"] == name]
    return dict(metrics)


def centres(metrics: dict[str, float], metric: str = "accuracy") -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.endswith(f"/{metric}")}
