"""Recalibration of BatchNorm statistics after merging."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stockpot.errors import InputError

B = TypeVar("B")


def recalibrate_batch_norm(
    model: nn.Module,
    forward: Callable[[nn.Module, B], object],
    batches: Sequence[B],
    *,
    fraction: float = 0.2,
) -> None:
    """Recompute the BatchNorm statistics of a net in place; a net without any is not run.

    Averaging weights shrinks activations, so averaged statistics do not fit. Each statistic becomes
    the mean of its values on the batches, which should be of equal size. All other layers are in
    eval mode meanwhile; modes and momenta are restored afterwards.

    Args:
        model: the net.
        forward: runs the net on a batch, e.g. `workload.forward`.
        batches: train examples in a fixed order, not augmented.
        fraction: share of the batches to use, in (0, 1], rounded; at least one is used.

    Raises:
        InputError: the fraction is out of range, or there are no batches.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"recalibrate: fraction must be in (0, 1], got {fraction!r}")
    if not batches:
        raise InputError("recalibrate: batches must be at least 1, got 0")
    norms = batch_norms(model)
    if not norms:
        return
    used = batches[: max(1, round(fraction * len(batches)))]
    with torch.no_grad(), _measuring(model, norms):
        for batch in used:
            forward(model, batch)


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers that track running statistics."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]


@contextmanager
def _measuring(model: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Put only the BatchNorm layers into train mode, with reset statistics."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, is_training in modes:
            module.training = is_training
