"""Early stopping: end a run when its val score stops improving, with the best weights.

Source: Prechelt 1998, "Early stopping - but when?".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stockpot.ingredients.finetuning.name_prefixes import with_prefix, without_prefix
from stockpot.merging.states import StateDict
from stockpot.workloads.open_sets import open_examples
from stockpot.workloads.protocol import Workload


class EarlyStopping:
    """Stores the best weights of a run by the workload's first metric on val; ties keep the older.

    Selection on val makes val scores optimistic; test is never used.
    """

    def __init__(self, workload: Workload, model: nn.Module, patience: int, device: str) -> None:
        """Copy the model, to score weights in.

        Args:
            workload: has val and the metric.
            model: the model that is trained.
            patience: epochs without a better score after which the run ends, at least 1.
            device: where the model is.
        """
        self._val, self._device = open_examples(workload, "val", device), device
        self._metric = next(iter(workload.metrics.values()))
        self._net = copy.deepcopy(model).eval()
        self._patience, self._waited = patience, 0
        self._best_score = -math.inf
        self.best: StateDict = {}

    @property
    def is_over(self) -> bool:
        """Whether the run should end."""
        return self._waited >= self._patience

    def update(self, weights: StateDict, scored: StateDict) -> None:
        """Score the weights at the end of an epoch.

        Args:
            weights: the state dict to store, e.g. of an average, or with an unmerged adapter.
            scored: the equivalent weights of the plain model.
        """
        score = self._score(scored)
        self._waited += 1
        if not self.best or score > self._best_score:
            self.best = {name: tensor.detach().clone() for name, tensor in weights.items()}
            self._best_score, self._waited = score, 0

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the state: the best weights, their score and age in epochs."""
        score = torch.tensor(self._best_score, dtype=torch.float64)
        state = {"score": score, "waited": torch.tensor(self._waited)}
        return state | with_prefix("best.", self.best)

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state."""
        self._best_score, self._waited = float(state_dict["score"]), int(state_dict["waited"])
        best = without_prefix("best.", state_dict)
        self.best = {name: tensor.to(self._device) for name, tensor in best.items()}

    def _score(self, weights: StateDict) -> float:
        """Return the mean of the first metric on val."""
        self._net.load_state_dict(weights)
        values = self._metric(self._val.outputs(self._net), self._val.targets)
        return float(values.double().mean())
