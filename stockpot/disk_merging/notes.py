"""Notes on exceptions in a merge, for the terminal before it starts and for the model card."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch

from stockpot.disk_merging.configs.differences import compare_models
from stockpot.disk_merging.inspection import other_starts, some_of
from stockpot.disk_merging.plan import TensorPlan
from stockpot.merging.methods.inner_products import cosines_of
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import is_head

_SAMPLE = 2**16  # entries of a head that are compared


def exceptions_taken(plans: Sequence[TensorPlan], unused: Mapping[str, str]) -> list[str]:
    """List the tensors that are not merged like all others, one line per exception.

    Args:
        plans: one per tensor.
        unused: names of tensors that are left out, each with the model that has it.
    """
    names_of: dict[str, list[str]] = {}
    for plan in plans:
        if plan.note:
            names_of.setdefault(plan.note, []).append(plan.name)
    for name, model in unused.items():
        names_of.setdefault(f"left out: only {model} has it", []).append(name)
    return [f"{some_of(names)}: {note}" for note, names in names_of.items()]


def equal_inputs(
    ids: Sequence[object], base: object | None, *, has_task_vectors: bool
) -> list[str]:
    """List models that are equal to each other or to the base.

    Args:
        ids: one per model: paths or digests.
        base: the base's id; None without a base.
        has_task_vectors: whether the method merges differences from the base.
    """
    pairs = itertools.combinations(enumerate(ids), 2)
    notes = [
        f"models {one} and {other} are equal: one of them counts twice"
        for (one, first), (other, second) in pairs
        if first == second
    ]
    if base is not None and has_task_vectors:
        notes += [
            f"model {number} is the base: its task vector is 0, which dilutes the average"
            for number, own in enumerate(ids)
            if own == base
        ]
    return notes


def different_heads(plans: Sequence[TensorPlan]) -> list[str]:
    """List heads that were initialised differently, judging by a small part of each."""
    heads = {}
    for plan in plans:
        is_matrix = plan.type[0].is_floating_point and len(plan.type[1]) == 2
        if is_head(plan.name) and is_matrix and len(plan.origins) > 1:
            size = min(plan.num_elements, _SAMPLE)
            runs = [o.source.read_run(o.name, 0, size).float() for o in plan.origins]
            rows = torch.stack(runs)  # (M, P)
            heads[plan.name] = cosines_of((rows @ rows.T).double())
    return [finding.text for finding in other_starts(heads)]


def different_configs(models: Sequence[Source]) -> list[str]:
    """List all differences between the models' config.json, the worst first."""
    return [difference.note for difference in compare_models(models)]


def different_dtypes(plans: Sequence[TensorPlan]) -> list[str]:
    """List the number formats that differ from those of the output's model."""
    names_of: dict[tuple[str, ...], list[str]] = {}
    for plan in plans:
        own = plan.reference
        for origin in plan.origins:
            pair = [one.source.output_dtype(one.name) for one in (own, origin)]
            if pair[0] != pair[1]:
                shown = (str(dtype).removeprefix("torch.") for dtype in pair)
                names_of.setdefault((own.model, origin.model, *shown), []).append(plan.name)
    return [
        f"{some_of(names)}: {dtype} in {model}, {own} in {reference}: merged in the wider format"
        for (reference, model, own, dtype), names in names_of.items()
    ]


def unused_tensors(plans: Sequence[TensorPlan], models: Sequence[Source]) -> dict[str, str]:
    """Return the tensors that the output lacks, each with the first model that has it."""
    used = {plan.name for plan in plans}
    held = {name: model for model in reversed(models) for name in model.tensors}
    return {name: shown_name(model.path) for name, model in held.items() if name not in used}
