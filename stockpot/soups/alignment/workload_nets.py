"""Alignment of nets of a workload: to another one, by their weights or by their activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.states import State
from stockpot.soups.alignment.activation_matching import match_activations
from stockpot.soups.alignment.permutations import Permutations, check_spec, permute
from stockpot.soups.alignment.repair import repair
from stockpot.soups.alignment.tracing import trace_spec
from stockpot.soups.alignment.weight_matching import match_weights
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.workloads.passes import empty_model

if TYPE_CHECKING:
    from torch import nn

    from stockpot.workloads.protocol import Batch, Workload

EXAMPLES = 512  # of train, to compare activations on
_FEW = 4  # examples, enough to trace a net


class Aligner:
    """Aligns nets of a workload's architecture.

    Attributes:
        sizes: the number of units that each permutation reorders, by its name.
    """

    def __init__(self, workload: Workload, device: str, num_examples: int = EXAMPLES) -> None:
        """Trace the workload's net.

        Args:
            workload: its train split is used, without augmentation and labels.
            device: where forward passes run.
            num_examples: examples of train to compare activations on.

        Raises:
            InputError: the net cannot be traced, or has no units that can be permuted.
        """
        self.model = empty_model(workload, device)
        self.forward = workload.forward
        self.batches = list(train_batches(workload, num_examples, seed=0, device=device))
        few = tuple(tensor[:_FEW] for tensor in self.batches[0])
        self.spec = trace_spec(self.model, _input_of(self.model, workload, few))
        self.sizes = check_spec(self.spec, self.model.state_dict())
        if not self.sizes:
            raise InputError("the net must have units whose order can be changed, got none")

    def align(self, first: State, second: State, by: str) -> dict[str, Tensor]:
        """Permute the units of the second net to match those of the first.

        The function of the second net does not change.

        Args:
            first: the weights of the reference net.
            second: the weights of the net to permute.
            by: what is compared, `weights` or `activations`.

        Raises:
            InputError: tensors are not the model's, or units cannot be compared.
        """
        return permute(second, self.spec, _MATCHES[by](self, first, second))


def _by_weights(aligner: Aligner, first: State, second: State) -> Permutations:
    return match_weights(first, second, aligner.spec).permutations


def _by_activations(aligner: Aligner, first: State, second: State) -> Permutations:
    return match_activations(
        aligner.model, (first, second), aligner.spec, aligner.forward, aligner.batches
    )


_Match: TypeAlias = Callable[[Aligner, State, State], Permutations]
_MATCHES: Mapping[str, _Match] = {"weights": _by_weights, "activations": _by_activations}


def check_alignable(workload: Workload, by: str, device: str) -> None:
    """Check that nets of a workload can be aligned, and their averages repaired.

    Raises:
        InputError: they cannot; with the reason.
    """
    aligner = Aligner(workload, device, num_examples=_FEW)
    state = aligner.model.state_dict()
    aligner.align(state, state, by)
    repair(aligner.model, (state, state), (1, 1), state, aligner.forward, aligner.batches)


def _input_of(model: nn.Module, workload: Workload, batch: Batch) -> Tensor:
    """Return the tensor that a workload calls its model with.

    Raises:
        InputError: the model is called with something else than one tensor.
    """
    calls: list[tuple[Any, ...]] = []

    def record(_model: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append((*arguments, *named.values()))

    handle = model.register_forward_pre_hook(record, with_kwargs=True)
    try:
        with torch.no_grad():
            workload.forward(model, batch)
    finally:
        handle.remove()
    if len(calls) != 1 or len(calls[0]) != 1 or not isinstance(calls[0][0], Tensor):
        raise InputError(
            "the net must be called once, with one tensor, to be traced, got "
            f"{len(calls)} calls with {[len(call) for call in calls]} arguments"
        )
    tensor: Tensor = calls[0][0]
    return tensor.detach()
