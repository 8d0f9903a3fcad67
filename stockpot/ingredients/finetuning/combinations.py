"""Techniques that exclude each other, checked before any work; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stockpot.errors import InputError
from stockpot.ingredients.finetuning.hyperparameters import TECHNIQUES, Hyperparameters
from stockpot.workloads.protocol import Workload, compares_responses

_EXCLUDED: Mapping[str, tuple[Callable[[Hyperparameters], bool], str, tuple[str, ...]]] = {
    "subspace": (
        lambda how: how.subspace > 0,
        "which trains coordinates of all weights",
        ("adapter", "compander", "sparsity", "layer_decay", "start_l2"),
    ),
    "compander": (
        lambda how: how.compander > 0,
        "which computes weights from others",
        ("adapter", "sparsity", "start_l2", "average"),
    ),
    "adapter tucker": (
        lambda how: how.adapter == "tucker",
        "the mean of whose factors is another change",
        ("average",),
    ),
    "adapter": (lambda how: how.adapter != "none", "which changes zeros", ("sparsity",)),
    "templates": (
        lambda how: how.templates > 0,
        "which layers share",
        ("adapter", "subspace", "compander", "sparsity", "layer_decay", "start_l2", "average"),
    ),
    "sparsity_update_every": (
        lambda how: how.sparsity > 0 and how.sparsity_update_every > 0,
        "whose masks along the run differ",
        ("average",),
    ),
    "bag_size": (
        lambda how: how.bag_size > 1,
        "of whose examples only mean targets are known",
        ("mixup", "cutmix", "sampler", "kept_data", "dropped_data", "accumulation"),
    ),
}
"""By technique: whether a run uses it, why it excludes others, and the hyperparameters that must
have their defaults."""

COMBINED = frozenset({name.partition(" ")[0] for name in _EXCLUDED} | {"adapter_init", "shard"})
"""The hyperparameters without which nothing is excluded."""


def check_combination(how: Hyperparameters, workload: Workload) -> None:
    """Check that the techniques of a run can be used together, and for a workload.

    Raises:
        InputError: two techniques exclude each other, or the workload excludes one.
    """
    for name, (uses, reason, others) in _EXCLUDED.items():
        if not uses(how):
            continue
        for other in others:
            off = TECHNIQUES.get(other, 0.0)
            if (found := getattr(how, other)) != off:
                raise InputError(f"{other}: must be {off!r} with {name}, {reason}, got {found!r}")
    _check_distances(how)
    _check_shard(how)
    if how.bag_size > 1:
        _check_bags(how, workload)
    if how.adapter_init != "default" and how.adapter not in ("none", "lora", "dora"):
        raise InputError(
            f"adapter_init: must be 'default' for {how.adapter}, which starts from zeros, got "
            f"{how.adapter_init!r}"
        )


def _check_distances(how: Hyperparameters) -> None:
    computes = how.subspace or how.compander or how.templates
    if computes and how.anchor != "none" and how.anchor_loss == "l2":
        raise InputError(
            "anchor_loss: distances of weights need subspace, compander and templates 0, got l2; "
            "take kl"
        )


def _check_shard(how: Hyperparameters) -> None:
    if how.shard > how.shards:
        raise InputError(f"shard: must be at most shards, {how.shards}, got {how.shard}")


def _check_bags(how: Hyperparameters, workload: Workload) -> None:
    if workload.task not in ("classification", "regression"):
        raise InputError(
            "bag_size: needs a workload whose task is classification or regression, got "
            f"{workload.task!r}; set it to 1"
        )
    if compares_responses(workload):
        raise InputError(
            "bag_size: needs a workload whose targets can be averaged, got "
            f"{type(workload).__name__}, whose targets say which response is preferred; set it to 1"
        )
    if how.batch_size % how.bag_size:
        raise InputError(
            f"batch_size: must be a multiple of bag_size, {how.bag_size}, since batches hold "
            f"whole bags, got {how.batch_size}"
        )
