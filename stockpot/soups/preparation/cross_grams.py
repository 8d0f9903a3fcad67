"""Gram matrices of layer inputs behind the merged layers before them (RegMean++)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stockpot.merging.states import State, StateDict
from stockpot.soups.preparation.gram_matrices import GramMatrices, is_linear, layers_by_weight
from stockpot.soups.preparation.option_checks import check_whole_numbers
from stockpot.soups.preparation.protocol import JointPreparation, MergeOf
from stockpot.soups.preparation.train_examples import train_batches
from stockpot.storage.weights.tensor_names import layer_of, stack_of
from stockpot.workloads.passes import empty_model, put_weights
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.responses import observed


@dataclass(frozen=True, slots=True)
class CrossGrams(JointPreparation):
    """Estimation of the Gram matrices of layer inputs, block by block.

    Attributes:
        n: number of examples of train; all, if there are fewer.
        max_in: largest number of layer inputs for a full matrix; layers with more get a diagonal.

    Raises:
        ValueError: an option is out of its range.
    """

    n: int = 256
    max_in: int = 16384

    def __post_init__(self) -> None:
        check_whole_numbers(n=self.n, max_in=self.max_in)

    def compute_together(
        self,
        workload: Workload,
        states: Sequence[State],
        merge: MergeOf,
        *,
        seed: int,
        device: str,
    ) -> list[dict[str, Tensor]]:
        """Compute the matrices of each model's linear and convolutional layers, in eval mode.

        Blocks of layers are merged in the order of the forward pass. The inputs of a model's layers
        are those of a net whose blocks before this one are merged, and whose block is the model's
        own. A block is a numbered layer, such as one of a transformer, or a single layer outside of
        these. What is never measured is averaged before.

        Args:
            workload: provides the inputs; labels are not used.
            states: the state dicts of the models.
            merge: merges tensors by the method.
            seed: seed of the choice of examples, the same for all models.
            device: where it is computed.

        Returns:
            For each model, by the names of weights, what `GramMatrices` computes. Of models whose
            blocks are single layers, the matrices of all models are equal, since they see the same
            examples.

        Source: the paper's algorithm 1. Its models see examples of their own tasks; its code merges
        the layers of a stack alone and keeps the pretrained ones after it.
        """
        kept = GramMatrices(self.n, self.max_in)
        batches = list(train_batches(workload, self.n, seed=seed, device=device))
        net = empty_model(workload, device)
        found: list[dict[str, Tensor]] = [{} for _ in states]
        merged = merge(states, found)
        for block in _blocks(workload, net, _on(device, merged), batches[:1]):
            names = [name for name in merged if _belongs(name, block)]
            own = [{name: state[name] for name in names} for state in states]
            layers = {name: net.get_submodule(_module_of(name)) for name in block}
            for tensors, grams in zip(own, found, strict=True):
                put_weights(net, _on(device, {**merged, **tensors}))
                grams.update(kept.means(workload, net, layers, batches))
            merged |= merge(own, found)
        return found


def _blocks(
    workload: Workload, net: nn.Module, weights: StateDict, batches: Iterable[Batch]
) -> list[list[str]]:
    """Return the names of weights, block by block in the order of the forward pass."""
    put_weights(net, weights)
    order: list[str] = []
    layers = layers_by_weight(net, is_linear)
    with torch.no_grad(), observed(layers, lambda name, *_: order.append(name)):
        for batch in batches:
            workload.forward(net, batch)
    blocks: dict[Any, list[str]] = {}
    for name in dict.fromkeys(order):
        blocks.setdefault(_block_of(name), []).append(name)
    return [*blocks.values()]


def _block_of(name: str) -> tuple[str, int | None]:
    """Return the numbered layer of a tensor, or its module if it is outside of these."""
    stack = stack_of(name)
    return (_module_of(name), None) if stack is None else (stack, layer_of(name))


def _belongs(name: str, block: Sequence[str]) -> bool:
    return _block_of(name) == _block_of(block[0])


def _module_of(name: str) -> str:
    return name.rpartition(".")[0]


def _on(device: str, state: Mapping[str, Tensor]) -> StateDict:
    return {name: tensor.to(device) for name, tensor in state.items()}
