"""Alignment of any number of nets to the first one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.alignment.activation_matching import match_activations
from stockpot.soups.alignment.permutations import permute
from stockpot.soups.alignment.tracing import trace_spec


def align_to_first(
    model: nn.Module, states: Sequence[Mapping[str, Tensor]], inputs: Tensor
) -> list[dict[str, Tensor]]:
    """Permute the units of independently trained nets so that activations match the first's.

    The functions of the nets do not change. A merge of them still needs `repair`. The spec is
    traced, and checked on the inputs.

    Args:
        model: the architecture, a net that takes one tensor and returns one; it is not changed.
        states: M nets with the same tensors, at least 2.
        inputs: train examples, not augmented; a few hundred are enough.

    Returns:
        The nets in their order; the first one is unchanged.

    Raises:
        InputError: there is only one net, a net's tensors are not the model's, or the model cannot
            be traced.

    Source: Ainsworth et al. 2022, https://arxiv.org/abs/2209.04836, section 3.1, applied to
    each net and the first one.
    """
    if len(states) < 2:
        raise InputError(f"align: nets must be at least 2, got {len(states)}")
    spec = trace_spec(model, inputs)
    first = states[0]
    aligned = [{name: tensor.detach().clone() for name, tensor in first.items()}]
    for state in states[1:]:
        found = match_activations(model, (first, state), spec, nn.Module.__call__, [inputs])
        aligned.append(permute(state, spec, found))
    return aligned
