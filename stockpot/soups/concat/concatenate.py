"""Put a workload's nets side by side, and check that the wide net is their exact ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.merging.sparse_masks import Mask, nonzero_mask
from stockpot.merging.states import State, StateDict
from stockpot.soups.concat.layers import Layer, observe_layers
from stockpot.soups.concat.side_by_side import side_by_side
from stockpot.workloads.batches import num_examples, take
from stockpot.workloads.passes import empty_model, put_weights

if TYPE_CHECKING:
    from stockpot.workloads.protocol import Batch, Workload

_EXAMPLES = 8
_TOLERANCE = 1e-6  # of the largest output, in float64; norms of transformers compute in float32


@dataclass(frozen=True, slots=True)
class WideNet:
    """Nets side by side.

    Attributes:
        weights: of the wide net, under the names of the workload's net.
        num_nets: how many there are.
        num_norms: norms over units, of which every net keeps its own.
    """

    weights: StateDict
    num_nets: int
    num_norms: int

    @property
    def described(self) -> dict[str, Any]:
        """The number of nets and the cost of the wide one, in the form of manifests."""
        sizes = [tensor.numel() for tensor in self.weights.values()]
        num_zeros = sum(int((tensor == 0).sum()) for tensor in self.weights.values())
        cost = {
            "forward_passes": 1,
            "num_params": sum(sizes),
            "num_zeros": num_zeros,  # most of them between the nets
            "norms_per_net": self.num_norms,
        }
        return {"num_nets": self.num_nets, "wide_net": cost}


def concatenate(
    workload: Workload, states: Sequence[State], coefficients: Sequence[float]
) -> WideNet:
    """Return one net whose outputs are the weighted sum of the nets' outputs.

    Of a language model, outputs are its logits. The net is run on a few examples of train, to see
    which layers read the net's input and which one computes its outputs, and the wide net is
    compared with the nets on the same examples, in float64.

    Args:
        workload: whose nets they are.
        states: the weights of M nets, on the CPU.
        coefficients: M factors of the nets' outputs.

    Raises:
        InputError: the nets cannot be put side by side; the message names the layer, or says by
            how much the outputs would differ.
    """
    net, batch = empty_model(workload, "cpu"), _some_examples(workload)
    layers = observed_layers(workload, states[0])
    weights = side_by_side(states, coefficients, layers)
    _check(workload, net, batch, layers[-1], (states, coefficients, weights))
    num_norms = sum(layer.form == "norm" for layer in layers)
    return WideNet(weights, len(states), num_norms)


def observed_layers(workload: Workload, state: State) -> list[Layer]:
    """Return the layers of a workload's net in the order of their calls; the head is the last.

    Args:
        workload: whose net it is; it is run on a few examples of train.
        state: its weights, on the CPU.

    Raises:
        InputError: a layer cannot be put side by side; the message names it.
    """
    net, batch = empty_model(workload, "cpu"), _some_examples(workload)
    put_weights(net, state)
    return observe_layers(net.requires_grad_(), lambda: workload.forward(net, batch))


def kept_entries(workload: Workload, states: Sequence[State]) -> Mask:
    """Return the weights of the wide net of pruned nets that may differ from 0.

    Within the nets these are their own weights that are not 0; between them, all.

    Args:
        workload: whose nets they are.
        states: the weights of M nets that can be put side by side, on the CPU.
    """
    layers, ones = observed_layers(workload, states[0]), [1.0] * len(states)
    masks = [nonzero_mask(state) for state in states]
    within = [{n: torch.ones_like(t, dtype=torch.int8) for n, t in s.items()} for s in states]
    live = [entries | mask for entries, mask in zip(within, masks, strict=True)]
    wide_within, wide_live = (side_by_side(each, ones, layers) for each in (within, live))
    return {name: (wide_live[name] != 0) | (wide_within[name] == 0) for name in masks[0]}


def _some_examples(workload: Workload) -> Batch:
    train = workload.dataset("train")
    return take(train, torch.arange(min(_EXAMPLES, num_examples(train))))


def _check(
    workload: Workload,
    net: nn.Module,
    batch: Batch,
    head: Layer,
    made: tuple[Sequence[State], Sequence[float], State],
) -> None:
    """Require that the wide net gives the weighted sum of outputs."""
    states, coefficients, weights = made
    wide_batch = tuple(t.double() if t.is_floating_point() else t for t in batch)

    def outputs(state: State) -> Tensor:
        return _outputs(workload, net, wide_batch, head, state)

    expected = sum(outputs(state) * c for state, c in zip(states, coefficients, strict=True))
    assert isinstance(expected, Tensor)
    try:
        found = outputs(weights)
        gap = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    except RuntimeError as error:
        raise InputError(
            "concat: the net cannot be made wider, since its code depends on its width, got "
            f"{str(error).splitlines()[0]!r}; use an ensemble"
        ) from error
    if not gap <= _TOLERANCE:
        raise InputError(
            f"concat: the wide net must be the nets' ensemble, got outputs that differ by "
            f"{gap:.2g} of the largest one: something other than its layers mixes units, such as a "
            "sum over all of them; use an ensemble"
        )


@torch.no_grad()
def _outputs(workload: Workload, net: nn.Module, batch: Batch, head: Layer, state: State) -> Tensor:
    """Return a net's outputs in float64; of a language model, those of its last layer."""
    wide = {n: t.double() if t.is_floating_point() else t for n, t in state.items()}
    put_weights(net, wide)
    written: list[Tensor] = []
    hook = net.get_submodule(head.name).register_forward_hook(
        lambda _module, _inputs, output: written.append(output)
    )
    try:
        outputs = workload.forward(net, batch)
    finally:
        hook.remove()
    return written[-1] if workload.task == "language_model" else outputs
