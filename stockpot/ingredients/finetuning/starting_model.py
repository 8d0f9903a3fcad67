"""The model of a run before the first step."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.ghost_batches import use_ghost_batches
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.sparse_training import keep_mask, prune
from stockpot.merging.sparse_masks import Mask
from stockpot.seeding import seeded_generator
from stockpot.workloads.protocol import Workload
from stockpot.workloads.wide_nets import fit_widths


def starting_model(
    workload: Workload,
    start: Mapping[str, Tensor] | None,
    how: Hyperparameters,
    device: str,
    mask: Mask | None = None,
) -> nn.Module:
    """Build the model on a device, with the techniques that change the model itself.

    Args:
        workload: has the architecture.
        start: the weights; None draws them from the hyperparameters' seed.
        how: the hyperparameters of the run.
        device: where to put the model.
        mask: the weights that are not 0 throughout the run, besides those of the hyperparameter
            `sparsity`; None for all.

    Raises:
        InputError: the weights or a technique do not fit the model.
    """
    model = initial_model(workload, start, how, device)
    if mask is not None:
        keep_mask(model, mask)
    if how.sparsity and not how.sparsity_update_every:
        prune(model, how.sparsity)
    if how.ghost_batch:
        use_ghost_batches(model, how.ghost_batch)
    return model


def initial_model(
    workload: Workload, start: Mapping[str, Tensor] | None, how: Hyperparameters, device: str
) -> nn.Module:
    """Build the plain model on a device; arguments and errors as for `starting_model`."""
    model = workload.build_model(seeded_generator(how.seed, "weights"))
    try:
        if start is not None:
            fit_widths(model, start)
            model.load_state_dict(start)
    except RuntimeError as error:
        raise InputError(f"start: its tensors must be those of the model, got {error}") from error
    return model.to(device)
