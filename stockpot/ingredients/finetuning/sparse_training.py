"""Retraining of a pruned model with a fixed mask (Zimmer et al. 2024, section 3.1).

https://arxiv.org/abs/2306.16788. Models with the same base and sparsity have the same mask, so
their average is as sparse as each of them. `dynamic_mask.py` has masks that move.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.merging.sparse_masks import Mask, apply_mask, magnitude_mask


def prune(model: nn.Module, sparsity: float) -> None:
    """Set a model's smallest weights to 0, in place, and keep them there.

    Arguments and errors are those of `zero_smallest`.
    """
    mask_gradients(model, zero_smallest(model, sparsity))


def keep_mask(model: nn.Module, mask: Mask) -> None:
    """Set the weights outside a mask to 0, in place, and keep them there; on the model's device."""
    weights = model.state_dict()
    mask = {name: kept.to(weights[name].device) for name, kept in mask.items()}
    model.load_state_dict(apply_mask(weights, mask))
    mask_gradients(model, mask)


def mask_gradients(model: nn.Module, mask: Mask) -> None:
    """Set the gradients of weights outside a mask to 0.

    A weight of 0 with a gradient of 0 has no momentum and no decay, so it stays exactly 0 with
    every optimizer.
    """
    state = model.state_dict(keep_vars=True)
    for name, remaining in mask.items():
        if state[name].requires_grad:
            state[name].register_hook(partial(_masked, remaining))


def zero_smallest(model: nn.Module, sparsity: float) -> Mask:
    """Set a model's smallest weights to 0, in place, and return the mask of the others.

    A model that is already that sparse keeps its mask.

    Args:
        model: its prunable weights are ranked together, on their device. Among equal weights the
            first remain, and at least one per tensor.
        sparsity: share of the prunable weights that are set to 0, in (0, 1).

    Raises:
        InputError: no weights are prunable, or a tensor would keep none.
    """
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    try:
        mask = magnitude_mask(weights, 1 - sparsity)
    except (ValueError, RuntimeError) as error:  # RuntimeError: no prunable weights
        raise InputError(
            f"sparsity: must fit the model's weights, got {sparsity}: {error}"
        ) from error
    model.load_state_dict(apply_mask(weights, mask))
    return mask


def _masked(remaining: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient with 0 for the pruned weights, even where it is NaN."""
    return gradient.where(remaining, 0)
