"""BatchNorm statistics of merged weights, measured anew on train."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from stockpot.soups.preparation.train_examples import BATCH, train_batches
from stockpot.workloads.batch_norm import batch_norms, recalibrate_batch_norm
from stockpot.workloads.batches import num_examples
from stockpot.workloads.passes import empty_model, put_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stockpot.workloads.protocol import Batch, Workload

_FRACTION = 0.2  # of train; more changes little
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Recalibration:
    """Gives merged weights the BatchNorm statistics that are theirs.

    The mean of weights has smaller activations than the models it was merged of, which their
    statistics do not show. They are measured on a fifth of train, drawn once and the same for all,
    not augmented, labels unseen. Weights without BatchNorm, and those of one model, stay as they
    are, and nothing is passed.

    Source: Jordan et al. 2022 (https://arxiv.org/abs/2211.08403) say why; Izmailov et al. 2018
    (https://arxiv.org/abs/1803.05407), section 3.1, do so.
    """

    def __init__(self, workload: Workload, device: str) -> None:
        self._workload = workload
        self._device = device

    def __call__(self, weights: Mapping[str, Tensor], num_models: int) -> dict[str, Tensor]:
        """Return weights with new statistics.

        Args:
            weights: merged ones, on any device.
            num_models: of how many, a base among them.

        Returns:
            The same tensors, but for the statistics, which are on the device of the weights.
        """
        if num_models < 2 or not any(name.endswith("running_mean") for name in weights):
            return dict(weights)  # without a net, which is a large one to build for nothing
        own = {name: tensor.to(self._device) for name, tensor in weights.items()}
        put_weights(self._model, own | {name: own[name].clone() for name in self._names})
        recalibrate_batch_norm(self._model, self._workload.forward, self._batches, fraction=1.0)
        measured = self._model.state_dict()
        return dict(weights) | {n: measured[n].to(weights[n].device) for n in self._names}

    @cached_property
    def _model(self) -> nn.Module:
        return empty_model(self._workload, self._device)

    @cached_property
    def _names(self) -> list[str]:
        """The names of all statistics."""
        norms = batch_norms(self._model)
        return [
            f"{name}.{statistic}" if name else statistic
            for name, module in self._model.named_modules()
            if module in norms
            for statistic in _STATISTICS
        ]

    @cached_property
    def _batches(self) -> list[Batch]:
        total = num_examples(self._workload.dataset("train"))
        whole = max(1, round(_FRACTION * total) // BATCH) * BATCH  # equal batches count the same
        return list(train_batches(self._workload, whole, seed=0, device=self._device))
