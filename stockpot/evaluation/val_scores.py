"""Val scores: what selection and tuning may know. Only `val` and the val shifts are opened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from stockpot.atomic_files import write_text
from stockpot.checkpoints import load_tensors, verify
from stockpot.evaluation.outputs import Examples, empty_model, put_weights
from stockpot.keys import content_key
from stockpot.models import Model
from stockpot.workloads.protocol import Workload
from stockpot.workloads.spec import WorkloadSpec


class ValScorer:
    """Scores weights on val and its shifts; holds the data on the device between calls."""

    def __init__(self, workload: Workload, device: str) -> None:
        """Open val and the val shifts; the rest of the workload's data stays closed."""
        self.metric, self._metric = next(iter(workload.metrics.items()))
        self._model = empty_model(workload, device)
        self._val = Examples(workload, workload.dataset("val"), device)
        self._shifts = {
            name: Examples(workload, shift.dataset(), device)
            for name, shift in workload.shifts().items()
            if shift.split == "val"
        }
        self._device = device

    def val(self, weights: Mapping[str, Tensor]) -> float:
        """Return the mean metric on val, in float64; higher is better."""
        put_weights(self._model, weights)
        return self._mean(self._val)

    def val_shift(self, weights: Mapping[str, Tensor]) -> float:
        """Return the mean over the val shifts of the mean metric; higher is better."""
        put_weights(self._model, weights)
        scores = [self._mean(shift) for shift in self._shifts.values()]
        return sum(scores) / len(scores)

    def all_scores(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Return every val score by name, with the mean loss on val."""
        put_weights(self._model, {name: t.to(self._device) for name, t in weights.items()})
        outputs = self._val.outputs(self._model)
        scores = {
            f"val/{self.metric}": self._mean(self._val),
            "val/loss": round(self._val.loss(outputs), 6),
        }
        shifts = {name: self._mean(shift) for name, shift in self._shifts.items()}
        scores |= {f"val_shift/{name}/{self.metric}": score for name, score in shifts.items()}
        if shifts:
            scores[f"val_shift/mean/{self.metric}"] = sum(shifts.values()) / len(shifts)
        return scores

    def _mean(self, examples: Examples) -> float:
        values = self._metric(examples.outputs(self._model), examples.targets)  # (N,)
        return values.double().mean().item()


def score_on_val(root: Path, workload: WorkloadSpec, model: Model, device: str) -> Model:
    """Return `model` with its val scores, kept by weights and scoring inputs for later runs."""
    key = content_key(digest=model.digest, **workload.scoring_inputs())
    kept = root / ".stockpot" / "scores" / f"{key}.json"
    if kept.is_file():
        return model.scored(json.loads(kept.read_text(encoding="utf-8")))
    weights = load_tensors(verify(root, model.checkpoint))
    scores = ValScorer(workload.build(), device).all_scores(weights)
    write_text(kept, json.dumps(scores))
    return model.scored(scores)
