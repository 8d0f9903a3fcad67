"""Val scores, for selection and tuning; only `val` and the val shifts are opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from stockpot.scoring.predictions import (
    load_losses,
    load_outputs,
    load_targets,
    predict,
    val_sets,
)
from stockpot.storage.models import Model
from stockpot.workloads.passes import Examples, empty_model, put_weights
from stockpot.workloads.protocol import Workload
from stockpot.workloads.spec import WorkloadSpec


class ValScorer:
    """Scores of candidates on val and its shifts, with the data on the device."""

    def __init__(self, workload: Workload, device: str) -> None:
        """Open val and the val shifts, and no other data of the workload."""
        self._metric = next(iter(workload.metrics.values()))
        self._model = empty_model(workload, device)
        self._val = Examples(workload, workload.dataset("val"), device)
        self._shifts = [
            Examples(workload, shift.dataset(), device)
            for shift in workload.shifts().values()
            if shift.split == "val"
        ]

    def val(self, weights: Mapping[str, Tensor]) -> float:
        """Return the mean metric on val, in float64; higher is better."""
        return self.val_values(weights).mean().item()

    def val_values(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the metric of each example of val, (N,), in float64; higher is better."""
        put_weights(self._model, weights)
        return self._values(self._val)

    def val_shift(self, weights: Mapping[str, Tensor]) -> float:
        """Return the mean over the val shifts of the mean metric; higher is better."""
        put_weights(self._model, weights)
        scores = [self._values(shift).mean().item() for shift in self._shifts]
        return sum(scores) / len(scores)

    def _values(self, examples: Examples) -> Tensor:
        return self._metric(examples.outputs(self._model), examples.targets).double()


def score_on_val(root: Path, workload: WorkloadSpec, model: Model, device: str) -> Model:
    """Return `model` with its val scores, computed from its cached predictions.

    The scores are the mean of the first metric on val, on each val shift and over these, and the
    mean loss on val.
    """
    sets = val_sets(workload)
    predict(root, workload, model.checkpoint, device, sets)
    metric, compute = next(iter(workload.build().metrics.items()))
    scores = {}
    for name in sets:
        outputs = load_outputs(root, workload, model.digest, name)
        values = compute(outputs, load_targets(root, workload, name))  # (N,)
        scores[f"{name}/{metric}"] = values.double().mean().item()
    _, *shifts = scores.values()
    if shifts:
        scores[f"val_shift/mean/{metric}"] = sum(shifts) / len(shifts)
    losses = load_losses(root, workload, model.digest, "val")
    return model.scored(scores | {"val/loss": round(losses.mean().item(), 6)})
