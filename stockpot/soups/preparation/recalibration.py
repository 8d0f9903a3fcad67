"""Recalibration of BatchNorm statistics of merged weights on train."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from stockpot.soups.preparation.train_examples import BATCH, train_batches
from stockpot.workloads.batch_norm import recalibrate_batch_norm
from stockpot.workloads.batches import num_examples
from stockpot.workloads.passes import empty_model, put_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stockpot.workloads.protocol import Batch, Workload

_FRACTION = 0.2  # of train; more changes little
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Recalibration:
    """Recomputes the BatchNorm statistics of merged weights.

    Averaged weights have smaller activations than the models they were merged from, so that
    averaged statistics do not fit them. They are recomputed on a random fifth of train, the same
    for all merges, without augmentation and labels. Weights without BatchNorm, and those of a
    single model, are returned unchanged without a forward pass.

    Source: Izmailov et al. 2018 (https://arxiv.org/abs/1803.05407), section 3.1; the reason is
    given by Jordan et al. 2022 (https://arxiv.org/abs/2211.08403).
    """

    def __init__(self, workload: Workload, device: str) -> None:
        self._workload = workload
        self._device = device

    def __call__(self, weights: Mapping[str, Tensor], num_models: int) -> dict[str, Tensor]:
        """Return the weights with new statistics.

        Args:
            weights: merged weights, on any device.
            num_models: the number of models they were merged from, including a base.

        Returns:
            The same tensors, with new statistics on the device of the weights.
        """
        if num_models < 2 or not any(name.endswith("running_mean") for name in weights):
            return dict(weights)  # building the net would be wasted time
        statistics = [name for name in weights if name.endswith(_STATISTICS)]
        own = {n: t.to(self._device, copy=n in statistics) for n, t in weights.items()}
        put_weights(self._model, own)
        recalibrate_batch_norm(self._model, self._workload.forward, self._batches, fraction=1.0)
        measured = self._model.state_dict()
        return dict(weights) | {n: measured[n].to(weights[n].device) for n in statistics}

    @cached_property
    def _model(self) -> nn.Module:
        return empty_model(self._workload, self._device)

    @cached_property
    def _batches(self) -> list[Batch]:
        total = num_examples(self._workload.dataset("train"))
        # Full batches, so that each has the same weight.
        whole = max(1, round(_FRACTION * total) // BATCH) * BATCH
        return list(train_batches(self._workload, whole, seed=0, device=self._device))
