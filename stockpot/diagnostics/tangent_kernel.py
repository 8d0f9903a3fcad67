"""The neural tangent kernel of a net: inner products of its outputs' gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stockpot.workloads.example_gradients import ExampleGradients
from stockpot.workloads.protocol import Batch, Workload

_FEWEST_ROWS = 8  # with fewer, parameters are left out instead
_MAX_GROUPS = 4  # each costs a backward pass for all outputs of all rows


@dataclass(frozen=True, slots=True)
class KernelSize:
    """The part of a tangent kernel that is computed, so that its Jacobian fits into memory.

    Attributes:
        num_rows: number of examples.
        groups: names of parameters; the Jacobian of one group is in memory at once.
        num_params: number of weights in the groups.
    """

    num_rows: int
    groups: tuple[tuple[str, ...], ...]
    num_params: int


def kernel_size(
    sizes: Mapping[str, int], num_rows: int, num_outputs: int, max_numbers: int
) -> KernelSize:
    """Choose rows and parameters for a Jacobian of limited size.

    All rows and parameters are used if they fit in a few groups. Else the rows are halved, down
    to 8, then parameters are left out: those nearest to the inputs first, and those that do not
    fit alone.

    Args:
        sizes: number of weights by parameter, in the order from inputs to outputs.
        num_rows: the largest number of examples.
        num_outputs: per example.
        max_numbers: entries of the Jacobian in memory at once.
    """
    total = sum(sizes.values())
    while num_rows > _FEWEST_ROWS and num_rows * num_outputs * total > _MAX_GROUPS * max_numbers:
        num_rows = max(num_rows // 2, _FEWEST_ROWS)
    room = max_numbers // (num_rows * num_outputs)  # parameters at once
    groups: list[list[str]] = [[]]
    for name in (name for name in reversed([*sizes]) if sizes[name] <= room):
        if sum(sizes[one] for one in [*groups[-1], name]) > room:
            if len(groups) == _MAX_GROUPS:
                break
            groups.append([])
        groups[-1].append(name)
    chosen = tuple(tuple(group) for group in groups if group)
    return KernelSize(num_rows, chosen, sum(sizes[name] for group in chosen for name in group))


def num_kernel_outputs(workload: Workload, outputs: Tensor) -> int:
    """Return the number of an example's outputs in the kernel, from outputs (N, ...)."""
    return 1 if workload.task == "language_model" else outputs[0].numel()


def tangent_kernel(
    workload: Workload, net: nn.Module, batch: Batch, groups: Sequence[Sequence[str]]
) -> Tensor:
    """Return the inner products of the gradients of all outputs of all examples.

    The one output of a language model, here, is the mean loss of a text's tokens.

    Args:
        workload: runs the net.
        net: in eval mode, where examples do not interact.
        batch: N examples.
        groups: names of parameters; the gradients of one group are in memory at once.

    Returns:
        K = J J^T over all groups' parameters; (N * C, N * C), float64.
    """

    def numbers(outputs: Tensor, example: Batch) -> Tensor:
        is_of_tokens = workload.task == "language_model"
        return workload.loss(outputs, example) if is_of_tokens else outputs[0].flatten()

    with torch.no_grad():
        first = tuple(tensor[:1] for tensor in batch)
        num_outputs = num_kernel_outputs(workload, workload.forward(net, first))
    kernel = torch.zeros((), dtype=torch.float64)
    for group in groups:
        gradients = ExampleGradients(workload, net, group)
        parts = [found for _, found in gradients.parts(batch, numbers, most=num_outputs)]
        for name in group:
            jacobian = torch.cat([part.pop(name) for part in parts])  # (N, C, ...)
            rows = jacobian.flatten(0, 1).flatten(1)  # (N * C, P)
            rows = rows if rows.dtype == torch.float64 else rows.float()
            kernel = kernel + (rows @ rows.T).double()
    return kernel


def alignment(first: Tensor, second: Tensor) -> float:
    """Return the cosine between two kernels, without centring; 1 if both are 0."""
    norms = float(first.norm() * second.norm())
    if norms == 0:
        return float(first.norm() == second.norm())
    return min(1.0, float((first * second).sum()) / norms)
