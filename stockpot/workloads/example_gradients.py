"""Gradients of each example by itself, for any net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from stockpot.workloads.passes import CalledModel
from stockpot.workloads.protocol import Batch, Workload

Numbers: TypeAlias = Callable[..., Tensor]
"""(outputs of one example (1, ...), that example (1, ...), its extras (1, ...)) -> numbers (K,)."""

_AT_ONCE = 2**24  # numbers in gradients that are in memory at once: 64 MB
# What vmap raises where values decide on the control flow, and nets that do not take its tensors.
# If the net itself is wrong, the loop raises it again.
_NOT_FOR_VMAP = (RuntimeError, TypeError, ValueError)


class ExampleGradients:
    """Gradients of numbers that a net computes from one example, for many examples.

    Examples are passed together by `torch.func.vmap`. If the net does not support that, as
    transformers whose masks depend on values, they are passed one at a time.
    """

    def __init__(
        self, workload: Workload, net: nn.Module, names: Sequence[str] | None = None
    ) -> None:
        """Take the present weights of a net, which should be in eval mode.

        Args:
            workload: runs the net.
            net: examples must not interact in it.
            names: the parameters to differentiate by; None for all.
        """
        self._called = CalledModel(workload, net)
        self._are_together = True
        own = {name: tensor.detach() for name, tensor in self._called.named_parameters()}
        buffers = {name: tensor.detach() for name, tensor in self._called.named_buffers()}
        self._tensors = own | buffers
        chosen = [*own] if names is None else [f"model.{name}" for name in names]
        self._moved = {name: own[name].detach() for name in chosen}
        self._num_params = sum(tensor.numel() for tensor in self._moved.values())

    def most_numbers(self) -> int:
        """Return for how many numbers of one example the gradients fit into memory; at least 1."""
        return max(1, _AT_ONCE // max(1, self._num_params))

    def parts(
        self, batch: Batch, numbers: Numbers, *extras: Tensor, most: int = 1
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Yield the gradients of a few examples at a time, so that they fit into memory.

        Args:
            batch: N examples.
            numbers: computes K numbers from an example's outputs.
            extras: further tensors (N, ...), whose rows are given to `numbers`.
            most: the largest K.

        Yields:
            The rows of R examples, and by each parameter the gradients (R, K, ...).
        """
        count, size = len(batch[-1]), max(1, self.most_numbers() // max(1, most))
        for start in range(0, count, size):
            rows = slice(start, min(start + size, count))
            part, others = (tuple(tensor[rows] for tensor in each) for each in (batch, extras))
            found = self._of(part, numbers, others)
            yield rows, {name.removeprefix("model."): each for name, each in found.items()}

    def _of(self, batch: Batch, numbers: Numbers, extras: Batch) -> dict[str, Tensor]:
        if self._are_together:
            try:
                return self._together(batch, numbers, extras)
            except _NOT_FOR_VMAP:
                self._are_together = False
        rows = []
        for row in range(len(batch[-1])):
            one, other = (tuple(t[row : row + 1] for t in each) for each in (batch, extras))
            rows.append(self._of_one(one, numbers, other))
        return {name: torch.stack([row[name] for row in rows]) for name in self._moved}

    def _together(self, batch: Batch, numbers: Numbers, extras: Batch) -> dict[str, Tensor]:
        def numbers_of(moved: dict[str, Tensor], example: Batch, others: Batch) -> Tensor:
            one, other = (tuple(t.unsqueeze(0) for t in each) for each in (example, others))
            return numbers(
                functional_call(self._called, self._tensors | moved, (one,)), one, *other
            )

        with sdpa_kernel(SDPBackend.MATH):  # vmap supports no other attention
            found: dict[str, Tensor] = vmap(jacrev(numbers_of), in_dims=(None, 0, 0))(
                self._moved, batch, extras
            )
        return found

    def _of_one(self, example: Batch, numbers: Numbers, extras: Batch) -> dict[str, Tensor]:
        """Return the gradients of the numbers of one example; (K, ...) each."""
        moved = {name: t.detach().requires_grad_() for name, t in self._moved.items()}
        with torch.enable_grad():
            outputs = functional_call(self._called, self._tensors | moved, (example,))
            found = numbers(outputs, example, *extras)
        if not found.requires_grad:  # no weight has an effect
            return {name: t.new_zeros(len(found), *t.shape) for name, t in self._moved.items()}
        slopes = [
            torch.autograd.grad(one, [*moved.values()], retain_graph=True, materialize_grads=True)
            for one in found
        ]
        columns = (torch.stack(column) for column in zip(*slopes, strict=True))
        return dict(zip(moved, columns, strict=True))
