"""Check that a net computes the same function after permutations of its spec."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.alignment.permutations import Spec, check_spec, permute, random_permutations

_TOLERANCE = 1e-6  # relative, in float64: rounding gives about 1e-14, a wrong entry about 1


def check_invariance(model: nn.Module, spec: Spec, inputs: Tensor, generator: Generator) -> None:
    """Check random permutations on a copy of the model, in eval mode and float64.

    Noise is added to the weights first: the entries of freshly initialized norms and biases are
    all equal, which would hide wrong entries of the spec.

    Args:
        model: a net that takes one tensor and returns one; it is not changed.
        spec: the spec to check.
        inputs: a batch.
        generator: for permutations and noise, on the CPU.

    Raises:
        InputError: the spec does not fit the net's tensors, or the outputs change.
    """
    sizes = check_spec(spec, model.state_dict())
    tried = copy.deepcopy(model).cpu().double().eval()
    batch = inputs.cpu().double() if inputs.is_floating_point() else inputs.cpu()
    state = _moved(tried.state_dict(), generator)
    expected = _outputs(tried, state, batch)
    found = _outputs(tried, permute(state, spec, random_permutations(sizes, generator)), batch)
    error = (found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    if not error <= _TOLERANCE:
        raise InputError(
            "spec: a permutation must not change the outputs, got a relative change of "
            f"{float(error):.2g}; look for tensors that are added or normalised together"
        )


def _moved(state: Mapping[str, Tensor], generator: Generator) -> dict[str, Tensor]:
    """Add non-negative noise to each float tensor, so that variances stay positive."""
    moved = {name: tensor.clone() for name, tensor in state.items()}
    for tensor in moved.values():
        if tensor.is_floating_point():
            spread = tensor.std(correction=0) if tensor.numel() else tensor.new_zeros(())
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.add_(noise * torch.where(spread > 0, spread, 0.1))
    return moved


@torch.no_grad()
def _outputs(model: nn.Module, state: Mapping[str, Tensor], batch: Tensor) -> Tensor:
    model.load_state_dict(state)
    outputs: Tensor = model(batch)
    return outputs
