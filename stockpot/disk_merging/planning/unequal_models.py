"""Rules for models whose tensors differ in name, shape or integer buffers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

from stockpot.disk_merging.merge_files.exceptions import Exceptions
from stockpot.disk_merging.planning.origins import Origin, TensorInputs
from stockpot.errors import InputError, some_of
from stockpot.storage.weights.naming import rename_hint
from stockpot.storage.weights.tensor_names import has_vocabulary_rows


def check_excluded(names: Sequence[str], exceptions: Exceptions) -> None:
    """Refuse a pattern of `exclude` that matches no tensor: it may have a typing error.

    Raises:
        InputError: with the first such pattern.
    """
    for pattern in exceptions.exclude:
        if not any(fnmatchcase(name, f"*{pattern}*") for name in names):
            raise InputError(
                f"exclude: {pattern!r} must be a part of the name of a tensor, such as "
                f"{some_of(sorted(names))}"
            )


def check_none_missing(listed: Sequence[TensorInputs], exceptions: Exceptions) -> None:
    """Refuse models that lack tensors, unless a rule allows it.

    Raises:
        InputError: with the first model that differs, and some of the tensors.
    """
    incomplete = [
        inputs
        for inputs in listed
        if not all(origin.exists for origin in inputs.origins)
        and not _is_excluded(inputs, exceptions)
    ]
    if exceptions.missing != "error" or not incomplete:
        return
    one, other = _that_differ(incomplete[0])
    lacked = sorted(
        inputs.name
        for inputs in incomplete
        if [origin.model for origin in _that_differ(inputs)] == [one.model, other.model]
    )
    remedy = "merge models of one base, or set `missing: skip` or `base`, or `exclude`"
    if len(incomplete) > len(listed) / 2:
        is_part = one.source.tensors.keys() <= other.source.tensors.keys()
        remedy = (
            "it is a part of such a model; name the folder of the whole one"
            if is_part
            else "most names differ: these are models of different architectures"
        )
    hint = rename_hint(other.source, one.source)
    raise InputError(
        f"{one.model}: lacks {some_of(lacked)}, which {other.model} has; {remedy}"
        + (f"; {hint}" if hint else "")
    )


def _that_differ(inputs: TensorInputs) -> tuple[Origin, Origin]:
    """Return a model that lacks a tensor, and one that has it."""
    return next(origin for origin in inputs.origins if not origin.exists), inputs.reference


def matched(inputs: TensorInputs, exceptions: Exceptions) -> TensorInputs | None:
    """Choose the inputs of one tensor that take part in its merge; all have the same shape.

    Args:
        inputs: one per model, present or not.
        exceptions: the rules for tensors that are missing or differ.

    Returns:
        None for a tensor that is left out of the output.

    Raises:
        InputError: shapes differ and no rule allows it, or only the base lacks the tensor.
    """
    if _is_excluded(inputs, exceptions):
        return _copied(inputs, inputs.reference, "excluded")
    lacking = [origin for origin in inputs.origins if not origin.exists]
    if not lacking:
        return _of_one_shape(inputs, exceptions, inputs.note)
    without = f"{_models(lacking)} has no such tensor"
    if exceptions.missing == "base":
        first = inputs.base or inputs.inputs[0]
        return _copied(inputs, first, without) if first.exists else None
    if inputs.base is not None and not inputs.base.exists:
        raise InputError(
            f"tensor {inputs.name!r}: {inputs.base.model} lacks it, so there is no "
            "difference from the base; list it in `exclude`, or set `missing: base`"
        )
    return _of_one_shape(inputs, exceptions, f"{without} and takes no part")


def _is_excluded(inputs: TensorInputs, exceptions: Exceptions) -> bool:
    return any(fnmatchcase(inputs.name, f"*{pattern}*") for pattern in exceptions.exclude)


def _of_one_shape(inputs: TensorInputs, exceptions: Exceptions, note: str) -> TensorInputs:
    """Choose among inputs that are present, by their shapes."""
    if (buffer := _buffer_to_copy(inputs, exceptions)) is not None:
        return _copied(inputs, buffer, "integers")
    reference = inputs.reference
    shape = reference.stored.shape
    present = {n: one for n, one in enumerate(inputs.inputs) if one.exists}
    odd = {n: one for n, one in present.items() if one.stored.shape != shape}
    if not odd:
        return _of_members(inputs, present, note)
    if exceptions.mismatch == "common" and _have_rows_in_common(inputs.name, present, reference):
        return _common_rows(inputs, present, note)
    other = f"{_models(odd.values())} has a different shape"
    rest = {n: one for n, one in present.items() if n not in odd}
    if exceptions.mismatch == "base" or (exceptions.mismatch == "skip" and not rest):
        return _copied(inputs, reference, other)
    if exceptions.mismatch == "skip":
        return _of_members(inputs, rest, note, f"{other} and takes no part")
    one = next(iter(odd.values()))
    padded = ", or `common` for padded vocabularies" if has_vocabulary_rows(inputs.name) else ""
    raise InputError(
        f"tensor {inputs.name!r}: has shape {one.stored.shape} in {one.model}, {shape} in "
        f"{reference.model}; merge models of one base, or set `mismatch: skip` or `base`{padded}, "
        "or `exclude`"
    )


def _buffer_to_copy(inputs: TensorInputs, exceptions: Exceptions) -> Origin | None:
    """Return the integer buffer to copy, whether or not they differ; None to merge them."""
    is_weight = inputs.reference.stored.dtype.is_floating_point
    if exceptions.integer == "error" or is_weight or inputs.name.endswith("num_batches_tracked"):
        return None
    present = (one for one in inputs.inputs if one.exists)
    return next(present, inputs.reference) if exceptions.integer == "first" else inputs.reference


def _have_rows_in_common(name: str, members: Mapping[int, Origin], reference: Origin) -> bool:
    shapes = [origin.stored.shape for origin in (reference, *members.values())]
    return has_vocabulary_rows(name) and all(
        shape and shape[1:] == shapes[0][1:] for shape in shapes
    )


def _common_rows(inputs: TensorInputs, members: Mapping[int, Origin], note: str) -> TensorInputs:
    """Cut all tensors to the rows that all have; further rows of the reference are copied."""
    reference = inputs.reference
    num_rows = reference.stored.shape[0]
    common = min(origin.stored.shape[0] for origin in (reference, *members.values()))
    padded = f"the {common} rows that all have are merged"
    if common < num_rows:
        padded += f"; rows {common} to {num_rows - 1} are those of {reference.model}"
    cut = _of_members(inputs, members, note, padded).changed(partial(replace, num_rows=common))
    return replace(cut, extra_rows=reference if common < num_rows else None)


def _of_members(inputs: TensorInputs, members: Mapping[int, Origin], *notes: str) -> TensorInputs:
    return replace(
        inputs,
        inputs=tuple(members.values()),
        members=tuple(members),
        note="; ".join(filter(None, notes)),
    )


def _copied(inputs: TensorInputs, origin: Origin, reason: str) -> TensorInputs:
    note = f"{reason}: copied from {origin.model}"
    return replace(inputs, inputs=(origin,), members=None, base=None, note=note)


def _models(origins: Iterable[Origin]) -> str:
    return ", ".join(dict.fromkeys(origin.model for origin in origins))
