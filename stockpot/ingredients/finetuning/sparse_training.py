"""Retraining of a pruned model whose zeros stay (Zimmer et al. 2024, section 3.1).

https://arxiv.org/abs/2306.16788. Models that start from one base with one sparsity have one mask,
so that their average is as sparse as each of them.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.merging.sparse_masks import apply_mask, magnitude_mask


def prune(model: nn.Module, sparsity: float) -> None:
    """Set a model's smallest weights to 0, in place, and let no gradient move them.

    A weight of 0 with a gradient of 0 has no momentum either, and nothing to decay: it stays
    exactly 0 with every optimizer. In a model that is as sparse already, these are the same.

    Args:
        model: whose prunable weights are ranked together, on their device; of equal ones the
            first are kept, and at least one a tensor.
        sparsity: the share of them that are 0, in (0, 1).

    Raises:
        InputError: there are no such weights, or fewer than one a tensor would stay.
    """
    state = model.state_dict(keep_vars=True)
    weights = {name: tensor.detach() for name, tensor in state.items()}
    try:
        mask = magnitude_mask(weights, 1 - sparsity)
    except (ValueError, RuntimeError) as error:  # RuntimeError: there are none to rank
        raise InputError(
            f"sparsity: must fit the model's weights, got {sparsity}: {error}"
        ) from error
    model.load_state_dict(apply_mask(weights, mask))
    for name, kept in mask.items():
        if state[name].requires_grad:
            state[name].register_hook(partial(_only, kept))


def _only(kept: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient with 0 where nothing is kept, whatever it was there."""
    return gradient.where(kept, 0)
