"""Notes on exceptions in a merge, for the terminal before it starts and for the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from stockpot.disk_merging.configs.differences import compare_models
from stockpot.disk_merging.inspection import equal_models, other_starts
from stockpot.disk_merging.planning.plan import TensorPlan
from stockpot.errors import some_of
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
    names: Sequence[str], ids: Sequence[object], base: object | None, *, has_task_vectors: bool
) -> list[str]:
    """List models that are equal to each other or to the base.

    Args:
        names: one per model.
        ids: one per model: paths or digests.
        base: the base's id; None without a base.
        has_task_vectors: whether the method merges differences from the base.
    """
    groups: dict[object, list[str]] = {}
    for name, own in zip(names, ids, strict=True):
        groups.setdefault(own, []).append(name)
    notes = [equal_models(group) for group in groups.values() if len(group) > 1]
    if base in groups and has_task_vectors:
        notes += [
            f"{name} is the base: its task vector is 0, which dilutes the average"
            for name in dict.fromkeys(groups[base])
        ]
    return notes


def different_heads(plans: Sequence[TensorPlan]) -> list[str]:
    """List heads that were initialised differently, judging by a small part of each."""
    heads = {}
    for plan in plans:
        is_matrix = plan.type[0].is_floating_point and len(plan.type[1]) == 2
        # What is computed from whole tensors would be computed before the forecast.
        is_stored = not any(origin.bytes_to_compute for origin in plan.origins)
        if is_head(plan.name) and is_matrix and is_stored and len(plan.origins) > 1:
            size = min(plan.num_elements, _SAMPLE)
            runs = [o.source.read_run(o.name, 0, size).float() for o in plan.origins]
            rows = torch.stack(runs)  # (M, P)
            heads[plan.name] = cosines_of((rows @ rows.T).double())
    return [finding.text for finding in other_starts(heads)]


def different_configs(models: Sequence[Source]) -> list[str]:
    """List all differences between the models' config.json, the worst first."""
    return [difference.note for difference in compare_models(models)]


def different_dtypes(plans: Sequence[TensorPlan]) -> list[str]:
    """List the tensors whose number format differs between models, with the output's."""
    names_of: dict[tuple[str, ...], list[str]] = {}
    for plan in plans:
        models: dict[torch.dtype, list[str]] = {}
        for origin in plan.origins:
            models.setdefault(origin.source.output_dtype(origin.name), []).append(origin.model)
        if len(models) > 1:
            held = [f"{_shown(dtype)} in {some_of(owners)}" for dtype, owners in models.items()]
            names_of.setdefault(("; ".join(held), _shown(plan.type[0])), []).append(plan.name)
    return [
        f"{some_of(names)}: {held}: merged in the widest, stored in {stored}"
        for (held, stored), names in names_of.items()
    ]


def _shown(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def unused_tensors(plans: Sequence[TensorPlan], models: Sequence[Source]) -> dict[str, str]:
    """Return the tensors that the output lacks, each with the first model that has it."""
    used = {plan.name for plan in plans}
    held = {name: model for model in reversed(models) for name in model.tensors}
    return {name: shown_name(model.path) for name, model in held.items() if name not in used}
