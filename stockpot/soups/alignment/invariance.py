"""Does a net compute the same after each permutation that a spec allows?"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from stockpot.errors import InputError
from stockpot.soups.alignment.permutations import Spec, check_spec, permute, random_permutations

_TOLERANCE = 1e-6  # relative, in float64: rounding gives about 1e-14, a wrong entry about 1


def check_invariance(model: nn.Module, spec: Spec, inputs: Tensor, generator: Generator) -> None:
    """Try random permutations on a copy of the model, in eval mode and float64.

    Its weights are moved at random first: norms and biases that are still as they were
    initialised are all equal, and would not show that their entry is wrong.

    Args:
        model: a net that takes one tensor and returns one; it stays as it is.
        spec: what is tried.
        inputs: a batch.
        generator: of the permutations and the weights, on the CPU.

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
            "spec: a permutation must leave the outputs as they are, got a relative change of "
            f"{float(error):.2g}; look for tensors that are added or normalised together"
        )


def _moved(state: Mapping[str, Tensor], generator: Generator) -> dict[str, Tensor]:
    """Add to each float tensor noise that is at least 0, so that variances stay positive."""
    moved = {}
    for name, tensor in state.items():
        moved[name] = tensor.clone()
        if tensor.is_floating_point():
            spread = tensor.std(correction=0) if tensor.numel() else tensor.new_zeros(())
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            moved[name] += noise * torch.where(spread > 0, spread, 0.1)
    return moved


@torch.no_grad()
def _outputs(model: nn.Module, state: Mapping[str, Tensor], batch: Tensor) -> Tensor:
    model.load_state_dict(state)
    outputs: Tensor = model(batch)
    return outputs
