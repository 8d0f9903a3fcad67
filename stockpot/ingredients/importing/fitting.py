"""Matching a checkpoint's header with the workload's model, and reading its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.ingredients.importing.model_form import ModelForm
from stockpot.storage.weights.naming import named_like
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import is_head

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Fit:
    """How a checkpoint matches the model.

    Attributes:
        names: for each tensor of the model, its name in the checkpoint.
        notes: conversions that the match needs, one sentence each.
    """

    names: Mapping[str, str]
    notes: tuple[str, ...]


def fit(source: Source, form: ModelForm) -> Fit:
    """Find the tensors of a model in a checkpoint; no weights are read.

    A prefix that a wrapper has added to all names (`model.`, `module.`, `_orig_mod.`) is removed.
    A tensor that the model has under two names may be stored under one.

    Raises:
        InputError: tensors are missing, surplus, or of another shape or kind; lists all problems.
    """
    prefix = _prefix(source, form)
    names = _names(source, form, prefix)
    problems = [*_missing(names, form), *_extra(source, names), *_other_types(source, names, form)]
    if problems:
        raise InputError(f"{source.path}: {'; '.join(problems)}")
    notes = [f"prefix {prefix!r} removed from the names"] if prefix else []
    return Fit(names, (*source.notes, *notes, *_casts(source, names, form)))


def fit_by_any_names(source: Source, form: ModelForm) -> tuple[Source, Fit]:
    """Find the tensors of a model in a checkpoint, under legacy names and layouts too.

    Returns:
        The checkpoint under names that fit, and how it matches.

    Raises:
        InputError: as for `fit`.
    """
    try:
        return source, fit(source, form)
    except InputError:
        alike = named_like(source, form.as_source())
        if alike is source:
            raise
    fitted = fit(alike, form)
    return alike, Fit(fitted.names, (*alike.notes, *fitted.notes))


def read_weights(source: Source, form: ModelForm, fitted: Fit) -> dict[str, Tensor]:
    """Read a checkpoint's weights with the model's names and dtypes, on the CPU.

    Raises:
        InputError: a value is NaN or infinite, or tied tensors are not equal.
    """
    weights = {
        name: source.read(own).to(form.tensors[name].dtype, copy=True)
        for name, own in fitted.names.items()
    }
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            wrong = int((~tensor.isfinite()).sum())
            raise InputError(
                f"{source.path}: tensor {name!r}: {wrong} of {tensor.numel()} values are NaN or "
                f"infinite in {form.tensors[name].dtype}"
            )
    for name, other in form.tied.items():
        if not torch.equal(weights[name], weights[other]):
            raise InputError(
                f"{source.path}: tensors {name!r} and {other!r} differ, the model ties them"
            )
    return weights


def _prefix(source: Source, form: ModelForm) -> str:
    """Return the prefix that most of the checkpoint's names have before a name of the model."""
    counts = Counter({"": 0})
    for name in source.tensors:
        parts = name.split(".")
        counts.update(
            "".join(f"{part}." for part in parts[:length])
            for length in range(len(parts))
            if ".".join(parts[length:]) in form.tensors
        )
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)))


def _names(source: Source, form: ModelForm, prefix: str) -> dict[str, str]:
    """Return the name in the checkpoint of each tensor of the model that it has."""
    found = {name: prefix + name for name in form.tensors if prefix + name in source.tensors}
    for name, other in form.tied.items():
        for one, twin in ((name, other), (other, name)):
            if one not in found and twin in found:
                found[one] = found[twin]
    return {name: found[name] for name in form.tensors if name in found}


def _missing(names: Mapping[str, str], form: ModelForm) -> Iterator[str]:
    missing = [name for name in form.tensors if name not in names]
    statistics = [name for name in missing if name.endswith(_STATISTICS)]
    others = [name for name in missing if name not in statistics]
    if others:
        yield f"lacks {len(others)} of {len(form.tensors)} tensors of the model: {_listed(others)}"
    if statistics:
        yield (
            f"lacks BatchNorm statistics: {_listed(statistics)}; save the whole state dict, "
            "including buffers"
        )


def _extra(source: Source, names: Mapping[str, str]) -> Iterator[str]:
    used = set(names.values())
    extra = [name for name in source.tensors if name not in used]
    if extra:
        yield f"has tensors that the model lacks: {_listed(extra)}"


def _other_types(source: Source, names: Mapping[str, str], form: ModelForm) -> Iterator[str]:
    for name, own in names.items():
        found, wanted = source.tensors[own], form.tensors[name]
        if found.shape != wanted.shape:
            head = "another head: " if is_head(name) else ""
            yield f"{head}tensor {name!r} has shape {found.shape}, the model has {wanted.shape}"
        if _kind(found) != _kind(wanted):
            yield f"tensor {name!r} is {found.dtype}, the model has {wanted.dtype}"


def _kind(tensor: StoredTensor) -> tuple[bool, bool]:
    return tensor.dtype == torch.bool, tensor.dtype.is_floating_point


def _casts(source: Source, names: Mapping[str, str], form: ModelForm) -> list[str]:
    # An adapted tensor is computed in float32 or wider; rounding its result is not a cast.
    casts = {
        (str(source.output_dtype(own)), str(form.tensors[name].dtype))
        for name, own in names.items()
        if source.output_dtype(own) != form.tensors[name].dtype
    }
    return [f"{one} converted to {other}, the model's dtype" for one, other in sorted(casts)]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
