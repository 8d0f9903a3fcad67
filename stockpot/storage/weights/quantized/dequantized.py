"""A quantised model, read as the floats that it stands for, or refused by the format's name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.digests import FileState, file_state
from stockpot.storage.weights.quantized.claims import Claim, read_claim
from stockpot.storage.weights.quantized.formats import (
    UNKNOWN,
    Format,
    find_format,
    format_of,
    integer_weights,
)
from stockpot.storage.weights.quantized.pairing import (
    Found,
    find_scaled,
    is_float8,
    is_of_activations,
    is_scale_of_weight,
)
from stockpot.storage.weights.quantized.scaled import Rule, ScaledBlocks
from stockpot.storage.weights.safetensors_format import NAMES, StoredTensor
from stockpot.storage.weights.sources import Source

# Methods whose weights have the rule of the kind; a model that names another contradicts itself.
_METHODS_OF = {
    "FP8": {"fp8", "mxfp8", "fbgemm_fp8", "compressed-tensors", "modelopt", "quark", "unnamed"},
    "NVFP4": {"modelopt", "modelopt_fp4", "nvfp4", "compressed-tensors", "unnamed"},
    "MXFP4": {"mxfp4", "fp8", "compressed-tensors", "modelopt", "quark", "unnamed"},
}


@dataclass(kw_only=True)
class DequantizedSource(Source):
    """A quantised model whose weights are computed when they are read, a few rows at a time.

    They are in float32, so that nothing is rounded again before the end of the merge; a merged
    weight that follows this model has the dtype that the model computes in.

    Attributes:
        stored: the codes and scales.
        rules: how each weight is computed, by name.
        dtype: the dtype that the model computes in.
        claimed: the files that say how the model is quantised.
    """

    stored: Source
    rules: Mapping[str, Rule]
    dtype: torch.dtype
    claimed: Sequence[Path]

    def output_dtype(self, name: str) -> torch.dtype:
        """Return the dtype that the model computes in; of other weights, their own."""
        return self.dtype if name in self.rules else self.stored.output_dtype(name)

    def may_round_to_zero(self, name: str) -> bool:
        """Return whether zeros of a tensor may be small values: those of 4-bit codes are."""
        rule = self.rules.get(name)
        return self.stored.may_round_to_zero(name) if rule is None else rule.is_packed

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the elements [first, last) of a flattened tensor; only its rows are computed."""
        rule = self.rules.get(name)
        if rule is None:
            return self.stored.read_run(name, first, last)
        if first == last:
            return torch.empty(0)
        num_columns = rule.shape[-1] if rule.shape else 1
        start = first // num_columns
        rows = rule.rows(self.stored, start, -(-last // num_columns)).view(-1)
        return rows[first - start * num_columns : last - start * num_columns]

    @property
    def states(self) -> list[FileState]:
        """The states of the weight files, and of those that say how they are quantised."""
        return [*super().states, *map(file_state, self.claimed)]


def dequantized(stored: Source) -> Source:
    """Return a model whose tensors are weights, whatever they are stored as; no weight is read.

    A model of floats is returned as it is. Names and dtypes of the tensors decide, and config.json
    is compared with them: either alone shows that a model is quantised.

    Args:
        stored: the model as its files have it.

    Raises:
        InputError: it is quantised in a format that is not dequantised here, in an unknown one,
            or its parts contradict each other.
    """
    claim = read_claim(stored.path)
    where = str(stored.path)
    found = list(find_scaled(where, stored.tensors, claim.block))
    used = {part for each in found for part in each.rule.parts}
    rest = {name: tensor for name, tensor in stored.tensors.items() if name not in used}
    if shown := find_format(rest):
        raise _refused(stored, claim, shown[0], f"tensor {shown[1]!r}")
    _check_claim(stored, claim, found, rest)
    is_quantized = bool(found or claim.method)
    dropped = [n for n, tensor in rest.items() if is_quantized and is_of_activations(n, tensor)]
    _check_rest(stored, claim, {name: rest[name] for name in rest if name not in dropped}, found)
    notes = (*stored.notes, *_notes(claim, found, rest, dropped))
    kept = {name: tensor for name, tensor in rest.items() if name not in dropped}
    if not found:
        return replace(stored, tensors=kept, notes=notes)
    rules = {each.name: each.rule for each in found}
    return DequantizedSource(
        stored.path,
        stored.files,
        _in_order(stored.tensors, rules, kept),
        stored.metadata,
        notes=notes,
        components=stored.components,
        stored=stored,
        rules=rules,
        dtype=claim.dtype,
        claimed=claim.files,
    )


def check_not_quantized(stored: Source) -> None:
    """Refuse a model that other libraries are about to load and train: they need its floats.

    Raises:
        InputError: it is quantised, in any format.
    """
    source = dequantized(stored)
    if isinstance(source, DequantizedSource):
        raise InputError(
            f"{stored.path}: must be a model of floats, got a quantised one "
            f"({source.notes[0]}); stockpot writes its floats by a merge with method: "
            "passthrough and this model alone"
        )


def _in_order(
    tensors: Mapping[str, StoredTensor], rules: Mapping[str, Rule], kept: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """Return the weights in the order of their codes, with the bytes that are read for each."""
    by_codes = {rule.parts[0]: name for name, rule in rules.items()}
    listed = {}
    for stored_name, stored in tensors.items():
        if name := by_codes.get(stored_name):
            rule = rules[name]
            num_bytes = sum(tensors[part].num_bytes for part in rule.parts)
            listed[name] = StoredTensor(stored.file, torch.float32, rule.shape, 0, num_bytes)
        elif stored_name in kept:
            listed[stored_name] = stored
    return listed


def _refused(stored: Source, claim: Claim, shown: Format, evidence: str) -> InputError:
    """Return the error for a format that is not dequantised here."""
    claimed = format_of(claim.method) if claim.method else None
    best = claimed if claimed and _may_be(claimed, shown) else shown
    said = f"; {claim.said}" if claimed else "; config.json does not say so" if claim.files else ""
    if claimed and claimed is not best:
        said += ", which contradicts it"
    folder = stored.folder or stored.path.parent
    return InputError(
        f"{stored.path}: quantised in {best.name} ({evidence}{said}), whose codes cannot "
        f"be merged; {best.advice(folder, claim.model_class)}"
    )


def _may_be(claimed: Format, shown: Format) -> bool:
    """Return whether a model's own account can be true, given the format that its tensors show."""
    return shown is UNKNOWN or shown == claimed or (shown.family == claimed.family != "")


def _check_claim(
    stored: Source, claim: Claim, found: Sequence[Found], rest: Mapping[str, StoredTensor]
) -> None:
    """Refuse a model whose config names another format than its tensors show."""
    if claim.has_transforms:
        raise InputError(
            f"{stored.path}: config.json has a transform_config: its weights are rotated, which "
            "the quantised layers undo when they run; merge the model that it was made from"
        )
    kinds = {each.kind for each in found}
    if claim.method and kinds:
        method = claim.method.lower()
        if wrong := [kind for kind in sorted(kinds) if method not in _METHODS_OF[kind]]:
            example = next(each for each in found if each.kind == wrong[0])
            raise InputError(
                f"{stored.path}: {claim.said}, its tensors are {wrong[0]} "
                f"({example.rule.parts[1]!r} scales {example.name!r}); correct or remove "
                "quantization_config"
            )
    lacking = [name for name, tensor in rest.items() if is_float8(tensor)]
    if lacking and (found or claim.method):
        raise InputError(
            f"{stored.path}: tensor {lacking[0]!r} is {rest[lacking[0]].dtype} and has no scale, "
            + ("others have one" if found else f"but {claim.said}")
            + "; download the missing tensors, or save the model again"
        )


def _check_rest(
    stored: Source, claim: Claim, rest: Mapping[str, StoredTensor], found: Sequence[Found]
) -> None:
    """Refuse what is neither a weight nor a known part of one."""
    scales = [name for name in rest if is_scale_of_weight(name)]
    if scales and (found or claim.method or scales[0].endswith("_scale_inv")):
        raise InputError(
            f"{stored.path}: tensor {scales[0]!r} scales a weight, and no quantised weight is next "
            "to it; download the missing tensors, or merge the model that it was "
            "quantised from"
        )
    codes = next(integer_weights(rest, is_claimed=bool(claim.method)), None)
    if codes is None:
        codes = next((name for name, tensor in rest.items() if tensor.dtype not in NAMES), None)
    if codes is not None:
        dtype = rest[codes].dtype
        shown = format_of("gguf") if codes.startswith("blk.") else UNKNOWN
        raise _refused(stored, claim, shown, f"tensor {codes!r} is {dtype}")


def _notes(
    claim: Claim,
    found: Sequence[Found],
    rest: Mapping[str, StoredTensor],
    dropped: Sequence[str],
) -> Iterator[str]:
    for (kind, by), count in sorted(Counter((e.kind, _by(e.rule)) for e in found).items()):
        yield f"weights dequantised from {kind}: {count}, codes times their scales{by}"
    if dropped:
        yield f"scales of activations left out: {len(dropped)}, such as {dropped[0]}"
    if found and not claim.method and claim.files:
        yield "config.json does not say that the weights are quantised"
    if any(_contradicts(claim.block, each.rule) for each in found):
        yield f"config.json states blocks of {_product(claim.block or ())}, which do not fit"
    if claim.method and not found:
        yield f"{claim.said}, but no weight is quantised: taken as they are"
    plain = [name for name, tensor in rest.items() if is_float8(tensor)]
    if plain:
        yield f"weights in 8-bit floats without scales, taken as they are: {len(plain)}"


def _by(rule: Rule) -> str:
    if not isinstance(rule, ScaledBlocks) or rule.is_packed:
        return ""
    if all(count == 1 for count in rule.grid):
        return ", one per tensor"
    if rule.grid == (rule.shape[0], *[1] * (len(rule.shape) - 1)):
        return ", one per row"
    return f", one per block of {_product(rule.block[-2:])}"


def _contradicts(stated: tuple[int, ...] | None, rule: Rule) -> bool:
    """Return whether blocks of float8 codes have another size than config.json states."""
    if stated is None or not isinstance(rule, ScaledBlocks) or rule.is_packed:
        return False
    last = zip(*(own[-len(stated) :] for own in (rule.shape, rule.grid, rule.block)), strict=True)
    return any(
        1 < count < size and block != own
        for (size, count, block), own in zip(last, stated, strict=False)
    )


def _product(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
