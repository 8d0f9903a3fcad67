"""Soups by weight signatures: what ingredients learnt on corrupted data, added to clean ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.masks import Masks
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.weight_signatures import signature_size, weight_signatures
from stockpot.merging.recipe import Recipe
from stockpot.merging.runs import Runs
from stockpot.merging.signature_layers import signature_tensors, split_layers
from stockpot.merging.states import State, StateDict
from stockpot.seeding import seeded_generator
from stockpot.workloads.protocol import Workload

CLEAN = "none"


def merge_by_corruption(
    workload: Workload,
    states: Sequence[State],
    corruptions: Sequence[str],
    base: State,
    options: Mapping[str, Any],
    masks: Masks | None,
) -> tuple[StateDict, list[str]]:
    """Add the signature of each corruption to the soup of the ingredients without one.

    A corruption's signature is that of the uniform soup of its ingredients, times 1 / n for n
    corruptions and `scale`.

    Args:
        workload: its model has the tensors in forward order.
        states: the weights of the ingredients, on the CPU.
        corruptions: what each was trained on; `none` for clean data.
        base: the weights that all were trained from.
        options: of the merge method, and `num_layers`.
        masks: for pruned ingredients; None where they are dense.

    Returns:
        The merged weights, and the names of the tensors with a signature.

    Raises:
        InputError: no ingredient is clean, or all are.
    """
    groups: dict[str, list[State]] = {}
    for state, corruption in zip(states, corruptions, strict=True):
        groups.setdefault(corruption, []).append(state)
    if CLEAN not in groups or len(groups) < 2:
        raise InputError(
            "weight_signatures: needs ingredients trained on clean and on corrupted data, got "
            f"the corruptions {sorted(groups)}; set sweep.space.corruption to a choice of none and "
            "others, or list the ingredients of each"
        )
    clean = _mean(groups.pop(CLEAN), masks)
    models = [clean, clean, *(_mean(groups[name], masks) for name in sorted(groups))]
    num_layers, own = split_layers(options)
    factors = (1 / len(groups),) * len(groups)
    recipe = replace(Recipe.of(weight_signatures, (1.0, 0.0, *factors), own), masks=masks)

    def size_of(name: str) -> float:
        tensors = [_wide(model[name]) for model in models]
        return signature_size(Runs.of(tensors, _wide(base[name])))

    names = signature_tensors(num_layers, _axes(workload, clean), size_of)
    # Statistics are averaged by these coefficients, so they are those of the clean soup.
    copied = replace(recipe, coefficients=(1.0, *(0.0 for _ in models[1:])))
    signed = frozenset(names)
    merged = merge_states(models, lambda name: recipe if name in signed else copied, base)
    return merged, names


def _mean(states: Sequence[State], masks: Masks | None) -> StateDict:
    return merge_states(states, replace(Recipe.of(linear, (1.0,) * len(states)), masks=masks))


def _axes(workload: Workload, weights: State) -> dict[str, int]:
    """Return the number of axes of each weight, in the order in which the model defines them."""
    model = workload.build_model(seeded_generator(0, "weights"))
    names = [name for name, _ in model.named_parameters() if name in weights]
    return {name: weights[name].ndim for name in names}


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
