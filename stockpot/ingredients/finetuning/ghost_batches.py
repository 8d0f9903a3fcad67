"""Ghost BatchNorm (Hoffer et al. 2017, https://arxiv.org/abs/1705.08741).

It gives large batches the noisy statistics of small ones; `large_batches.py` has the schedule of
the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stockpot.errors import InputError


class _GhostBatches(_BatchNorm):
    """BatchNorm that splits a batch into ghost batches and normalises each by itself.

    Running statistics are updated by one ghost batch after the other (algorithm 1). Eval mode and
    the names of tensors are those of BatchNorm, so models are merged and loaded as usual.

    Attributes:
        ghost_batch: examples per ghost batch; the last one may be larger or smaller.
    """

    ghost_batch: int

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise inputs (N, C, ...)."""
        if not self.training:
            return super().forward(inputs)
        parts = self._parts(inputs)
        return torch.cat([super(_GhostBatches, self).forward(part) for part in parts])

    def _parts(self, inputs: Tensor) -> Iterator[Tensor]:
        """Yield ghost batches; a last one of one value per channel, so no variance, is joined."""
        *parts, last = torch.split(inputs, self.ghost_batch)
        if parts and last.numel() == inputs.shape[1]:  # a lazy layer has no num_features yet
            *parts, before = parts
            last = inputs[-len(before) - len(last) :]
        yield from parts
        yield last


@cache
def _ghost_of(kind: Any) -> Any:
    """Return the class of a kind of BatchNorm layer with ghost batches."""
    lazy = getattr(kind, "cls_to_become", None)  # what a lazily built layer is after its first use
    members = {"cls_to_become": _ghost_of(lazy)} if lazy else {}
    return type(f"Ghost{kind.__name__}", (_GhostBatches, kind), members)


def use_ghost_batches(model: nn.Module, size: int) -> None:
    """Make each BatchNorm layer of a model normalise ghost batches of `size` examples, in place.

    Raises:
        InputError: the model has no BatchNorm layer.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        raise InputError("ghost_batch: the model must have BatchNorm layers, got none; set it to 0")
    for norm in norms:
        # As torch's parametrizations do: parameters, buffers, hooks and references to the layer
        # stay valid.
        kind: Any = type(norm)
        norm.__class__ = _ghost_of(kind)
        cast("_GhostBatches", norm).ghost_batch = size
