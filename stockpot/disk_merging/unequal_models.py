"""Rules for models whose tensors differ in name, shape or integer buffers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from stockpot.disk_merging.merge_file import Integer, Mismatch, Missing
from stockpot.disk_merging.origins import Origin, TensorInputs
from stockpot.errors import InputError
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import has_vocabulary_rows


@dataclass(frozen=True, slots=True)
class Exceptions:
    """The rules for tensors that do not match between models.

    Attributes:
        missing: for tensors that some models lack. skip: merge the others; base: copy the tensor
            from the base, or without a base, from the first model.
        mismatch: for tensors whose shape differs from the base's, or without a base, from the
            first model's. skip and base: as for `missing`; common: of embeddings and heads, merge
            the rows that all models have and copy the rest.
        exclude: parts of names (`*` is a wildcard) of tensors that are copied.
        integer: for integer buffers that differ. base: copy from the base, or without a base,
            from the first model; first: from the first model that has them. Batch counts are
            never copied: the output has the largest.
    """

    missing: Missing = "error"
    mismatch: Mismatch = "error"
    exclude: tuple[str, ...] = ()
    integer: Integer = "error"

    def excludes(self, name: str) -> bool:
        """Return whether a tensor is copied instead of merged."""
        return any(fnmatchcase(name, f"*{pattern}*") for pattern in self.exclude)

    def copies(self, inputs: TensorInputs) -> Origin | None:
        """Return the integer buffer to copy, whether or not they differ; None to merge them."""
        is_weight = inputs.reference.stored.dtype.is_floating_point
        if self.integer == "error" or is_weight or inputs.name.endswith("num_batches_tracked"):
            return None
        if self.integer == "base":
            return inputs.reference
        return next((one for one in inputs.inputs if one.exists), inputs.reference)


@dataclass(frozen=True, slots=True)
class Matched:
    """The inputs of one tensor that take part in its merge; all have the same shape.

    Attributes:
        inputs: one per model that takes part.
        members: indices of these models; None where a tensor is copied.
        base: the base's tensor; None without a base, and where a tensor is copied.
        extra_rows: the tensor whose rows beyond those of `inputs` are copied; None for none.
        note: the exception that was made; empty for none.
    """

    inputs: tuple[Origin, ...]
    members: tuple[int, ...] | None
    base: Origin | None
    extra_rows: Origin | None = None
    note: str = ""


def check_none_missing(
    listed: Sequence[TensorInputs], models: Sequence[Source], exceptions: Exceptions
) -> None:
    """Refuse models that lack tensors, unless a rule allows it.

    Raises:
        InputError: with the first model that differs, and some of the tensors.
    """
    number_of = {id(model): number for number, model in reversed([*enumerate(models)])}
    differing: dict[tuple[int, int], list[str]] = {}
    for inputs in listed:
        lacking = [origin for origin in inputs.origins if not origin.exists]
        if exceptions.missing != "error" or not lacking or exceptions.excludes(inputs.name):
            continue
        first = inputs.inputs[0]
        other = inputs.reference if not first.exists else lacking[0]
        pair = number_of[id(other.source)], number_of[id(first.source)]
        differing.setdefault(pair, []).append(inputs.name)
    for (number, first_number), names in differing.items():
        raise InputError(
            f"model {number}: tensors {sorted(names)[:3]} are not in both it and model "
            f"{first_number}; merge models of one base, or set `missing: skip` or `base`, or "
            "`exclude`"
        )


def matched(inputs: TensorInputs, exceptions: Exceptions) -> Matched | None:
    """Choose the inputs of one tensor that take part in its merge.

    Args:
        inputs: one per model, present or not.
        exceptions: the rules for tensors that are missing or differ.

    Returns:
        None for a tensor that is left out of the output.

    Raises:
        InputError: shapes differ and no rule allows it, or only the base lacks the tensor.
    """
    if exceptions.excludes(inputs.name):
        return _copied(inputs.reference, "excluded")
    lacking = [origin for origin in inputs.origins if not origin.exists]
    if not lacking:
        return _of_one_shape(inputs, exceptions, inputs.note)
    without = f"{_models(lacking)} has no such tensor"
    if exceptions.missing == "base":
        first = inputs.base or inputs.inputs[0]
        return _copied(first, without) if first.exists else None
    if inputs.base is not None and not inputs.base.exists:
        raise InputError(
            f"tensor {inputs.name!r}: {inputs.base.source.path} lacks it, so there is no "
            "difference from the base; list it in `exclude`, or set `missing: base`"
        )
    return _of_one_shape(inputs, exceptions, f"{without} and takes no part")


def _of_one_shape(inputs: TensorInputs, exceptions: Exceptions, note: str) -> Matched:
    """Choose among inputs that are all present, by their shapes."""
    if (buffer := exceptions.copies(inputs)) is not None:
        return _copied(buffer, "integers")
    mismatch = exceptions.mismatch
    members = {n: one for n, one in enumerate(inputs.inputs) if one.exists}
    reference = inputs.reference
    shape = reference.stored.shape
    odd = {n: one for n, one in members.items() if one.stored.shape != shape}
    if not odd:
        return Matched(tuple(members.values()), tuple(members), inputs.base, note=note)
    if mismatch == "common" and _have_rows_in_common(inputs.name, [reference, *members.values()]):
        return _common_rows(replace(inputs, inputs=tuple(members.values())), tuple(members), note)
    other = f"{_models(odd.values())} has a different shape"
    if mismatch == "base":
        return _copied(reference, other)
    if mismatch == "skip":
        rest = {n: one for n, one in members.items() if n not in odd}
        if not rest:
            return _copied(reference, other)
        note = "; ".join(filter(None, [note, f"{other} and takes no part"]))
        return Matched(tuple(rest.values()), tuple(rest), inputs.base, note=note)
    number, one = next(iter(odd.items()))
    raise InputError(
        f"tensor {inputs.name!r} of model {number}: has shape {one.stored.shape}, "
        f"{reference.source.path} has {shape}; merge models of one base, or set `mismatch: skip` "
        "or `base`, or `common` for padded vocabularies, or `exclude`"
    )


def _have_rows_in_common(name: str, origins: Sequence[Origin]) -> bool:
    shapes = [origin.stored.shape for origin in origins]
    return has_vocabulary_rows(name) and all(
        shape and shape[1:] == shapes[0][1:] for shape in shapes
    )


def _common_rows(inputs: TensorInputs, members: tuple[int, ...], note: str) -> Matched:
    reference = inputs.reference
    common = min(origin.stored.shape[0] for origin in inputs.origins)
    num_rows = reference.stored.shape[0]
    cut = tuple(replace(origin, num_rows=common) for origin in inputs.inputs)
    base = None if inputs.base is None else replace(inputs.base, num_rows=common)
    padded = f"the {common} rows that all have are merged"
    if common < num_rows:
        padded += f"; rows {common} to {num_rows - 1} are those of {reference.model}"
    extra_rows = reference if common < num_rows else None
    return Matched(cut, members, base, extra_rows, "; ".join(filter(None, [note, padded])))


def _copied(origin: Origin, reason: str) -> Matched:
    return Matched((origin,), None, None, note=f"{reason}: copied from {origin.model}")


def _models(origins: Iterable[Origin]) -> str:
    return ", ".join(dict.fromkeys(origin.model for origin in origins))
