"""Ending a run when val no longer gets better, with the weights that were best there.

Source: Prechelt 1998, "Early stopping - but when?".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stockpot.ingredients.finetuning.weight_averages import State
from stockpot.workloads.batches import batches_by_length, num_examples, take, to_device
from stockpot.workloads.protocol import Workload

_BATCH_SIZE = 256


class EarlyStopping:
    """Keeps the best weights of a run by the workload's first metric on val; a tie changes nothing.

    Choices by val make scores on val too good; test is never looked at.
    """

    def __init__(self, workload: Workload, model: nn.Module, patience: int, device: str) -> None:
        """Prepare to judge.

        Args:
            workload: has val and the metric.
            model: the one that is trained; weights are scored in a copy.
            patience: epochs without a better score after which the run is over, at least 1.
            device: where the model is.
        """
        self._workload, self._device = workload, device
        self._net = copy.deepcopy(model).eval()
        self._patience, self._waited = patience, 0
        self._best_score = -math.inf
        self.best: State = {}

    @property
    def is_over(self) -> bool:
        """Say whether the run should end."""
        return self._waited >= self._patience

    def judge(self, weights: State, scored: State) -> None:
        """Score the weights at the end of an epoch.

        Args:
            weights: what is kept of them: what an average or an adapter goes on from.
            scored: the same as the model's own tensors.
        """
        score = self._score(scored)
        self._waited += 1
        if not self.best or score > self._best_score:
            self.best = {name: tensor.detach().clone() for name, tensor in weights.items()}
            self._best_score, self._waited = score, 0

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the best weights, their score, and how long ago they were."""
        best = {f"best.{name}": tensor for name, tensor in self.best.items()}
        score = torch.tensor(self._best_score, dtype=torch.float64)
        return {"score": score, "waited": torch.tensor(self._waited), **best}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these over."""
        self._best_score, self._waited = float(tensors["score"]), int(tensors["waited"])
        self.best = {
            name.removeprefix("best."): tensor.to(self._device)
            for name, tensor in tensors.items()
            if name.startswith("best.")
        }

    def _score(self, weights: State) -> float:
        """Return the mean of the first metric on val."""
        self._net.load_state_dict(weights)
        data = to_device(self._workload.dataset("val"), self._device)
        metric = next(iter(self._workload.metrics.values()))
        values = []
        with torch.no_grad():
            every = torch.arange(num_examples(data))
            for indices in batches_by_length(data, every, _BATCH_SIZE):
                batch = tuple(tensor.to(self._device) for tensor in take(data, indices))
                values.append(metric(self._workload.forward(self._net, batch), batch[-1]))
        return float(torch.cat(values).double().mean())
