"""An adapter applied to its base, read like a whole model, a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.storage.digests import Algorithm, FileState, file_state, joint_digest
from stockpot.storage.weights.adapter_config import CONFIG
from stockpot.storage.weights.adapters import Adapter, LowRank
from stockpot.storage.weights.hub_origins import shown_name, stated_name
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import is_token_embedding

_ROWS = 16  # per multiplication, always: a run then equals the whole tensor bit for bit


@dataclass(kw_only=True)
class AdaptedSource(Source):
    """A base with an adapter applied; changed tensors are computed when they are read.

    They are in float32 or wider, so that nothing is rounded before the end of the merge.

    Attributes:
        base: the model that the adapter was trained on.
        adapter: the adapter.
        changes: of the adapter, by tensor of the base.
        replaced: names in the adapter's weights, by tensor of the base.
    """

    base: Source
    adapter: Adapter
    changes: Mapping[str, LowRank]
    replaced: Mapping[str, str]

    @property
    def folder(self) -> Path | None:
        """The base's folder, which holds config and tokenizer of the model."""
        return self.base.folder

    def output_dtype(self, name: str) -> torch.dtype:
        """Return a tensor's dtype in the base, or in the adapter if the base lacks it."""
        if name in self.base.tensors:
            return self.base.output_dtype(name)
        return self.tensors[name].dtype

    def may_round_to_zero(self, name: str) -> bool:
        """Return whether zeros of a tensor may be small values."""
        source, own = self._before(name)
        return source.may_round_to_zero(own)

    def bytes_to_compute(self, name: str) -> int:
        """Return the memory that reading any element of a tensor takes, if all are computed."""
        source, own = self._before(name)
        return source.bytes_to_compute(own)

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the elements [first, last) of a flattened tensor.

        Of a changed tensor, only the rows with these elements are computed.
        """
        if name not in self.changes:
            source, own = self._before(name)
            return source.read_run(own, first, last)
        stored = self.tensors[name]
        if first == last:
            return torch.empty(0, dtype=stored.dtype)
        num_columns = math.prod(stored.shape[1:])
        start = first // num_columns // _ROWS * _ROWS
        blocks = self._changed_blocks(name, start, -(-last // num_columns))
        changed = torch.cat(list(blocks)).view(-1)
        return changed[first - start * num_columns : last - start * num_columns]

    @property
    def states(self) -> list[FileState]:
        """The states of the files that the digest covers, the adapter's configuration included."""
        own = file_state(self.adapter.path / CONFIG)
        return [*self.adapter.weights.states, *self.base.states, own]

    def digest_by(self, algorithm: Algorithm) -> str:
        """Return the joint digest of the adapter and the base."""
        digests = [self.adapter.digest_by(algorithm), self.base.digest_by(algorithm)]
        return joint_digest(digests, algorithm)

    def _before(self, name: str) -> tuple[Source, str]:
        """Return the source of a tensor before the change, and its name in that source."""
        if name in self.replaced:
            return self.adapter.weights, self.replaced[name]
        return self.base, name

    def _changed_blocks(self, name: str, start: int, stop: int) -> Iterator[Tensor]:
        """Yield base + scaling * B A in blocks of rows, from `start` up to at least `stop`.

        With DoRA, the rows are rescaled to the learnt norms: Liu et al. 2024
        (https://arxiv.org/abs/2402.09353), equation 5.
        """
        change, stored = self.changes[name], self.tensors[name]
        source, own = self._before(name)
        num_columns = math.prod(stored.shape[1:])
        left, right = self._factors(name)
        for row in range(start, stop, _ROWS):
            end = min(row + _ROWS, stored.shape[0])
            before = source.read_run(own, row * num_columns, end * num_columns)
            product = left[row:end].to(stored.dtype) @ right * change.scaling
            block = before.to(stored.dtype).view(-1, num_columns) + product
            if change.magnitude is not None:
                lengths = self.adapter.weights.read_run(change.magnitude, row, end)
                norms = torch.linalg.vector_norm(block, dim=1)
                block *= (lengths.to(stored.dtype) / norms).unsqueeze(1)
            yield block

    def _factors(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the factors as (rows, r), in their dtype, and (r, columns), in the tensor's."""
        change = self.changes[name]
        a = self.adapter.weights.read(change.a).flatten(1)
        b = self.adapter.weights.read(change.b).flatten(1)
        left, right = (a.T, b.T) if change.is_transposed else (b, a)
        return left, right.to(self.tensors[name].dtype)


def put_on_base(adapter: Adapter, base: Source) -> AdaptedSource:
    """Apply an adapter to its base; no weights are read.

    Raises:
        InputError: the adapter does not fit this base.
    """
    tensors = dict(base.tensors)
    replaced = {}
    for name, key in adapter.replaced.items():
        own = _name_in_base(base, name)
        if own is None and not adapter.config.saves(name.rpartition(".")[0]):
            raise InputError(f"{adapter.path}: replaces {name!r}, which {base.path} does not have")
        if own is not None:
            _check_not_tied(adapter, base, name, own)
        replaced[own or name] = key
        tensors[own or name] = adapter.stored(key)
    changes = {}
    for module, change in adapter.changes.items():
        own = _name_in_base(base, f"{module}.weight")
        if own is None:
            raise InputError(
                f"{adapter.path}: changes module {module!r}, and {base.path} has no tensor "
                f"'{module}.weight'; name the base that it was trained on"
            )
        changes[own] = _placed(adapter, module, change, tensors[own])
        tensors[own] = _changed(adapter, change, tensors[own])
    files = (*adapter.weights.files, *base.files)
    return AdaptedSource(
        adapter.path,
        files,
        tensors,
        notes=(*base.notes, *_other_base(adapter, base)),
        components=base.components,
        base=base,
        adapter=adapter,
        changes=changes,
        replaced=replaced,
    )


def _other_base(adapter: Adapter, base: Source) -> Iterator[str]:
    """Say that an adapter names another base: shapes alone do not show that it fits."""
    named = adapter.config.base.rstrip("/")
    stated = (shown_name(base.path), stated_name(base.folder) or "")
    if named and Path(named).name not in {Path(name).name for name in stated}:
        yield f"adapter_config.json names {named} as its base; it is added to {stated[0]}"


def _check_not_tied(adapter: Adapter, base: Source, name: str, own: str) -> None:
    """Refuse a replaced embedding if the base stores no head: it would replace the tied head too.

    PEFT leaves a tied head unchanged. An embedding that is stored as the base layer of factors
    stays tied in PEFT, as here.
    """
    if not (is_token_embedding(name) and adapter.config.saves(name.rpartition(".")[0])):
        return
    shape = base.tensors[own].shape
    if all(other == own or stored.shape != shape for other, stored in base.tensors.items()):
        raise InputError(
            f"{adapter.path}: replaces {name!r}, to which {base.path} may tie its head, as it "
            "stores none; merge it with PEFT"
        )


def _name_in_base(base: Source, name: str) -> str | None:
    """Find a tensor; names with and without a head differ by one outer component."""
    if name in base.tensors:
        return name
    inner = name.partition(".")[2]
    if inner in base.tensors:
        return inner
    found = [stored for stored in base.tensors if stored.partition(".")[2] == name]
    return found[0] if len(found) == 1 else None


def _placed(adapter: Adapter, module: str, change: LowRank, stored: StoredTensor) -> LowRank:
    """Check a change against its weight, and find its orientation."""
    where = f"{adapter.path}: module {module!r}"
    if not stored.dtype.is_floating_point:
        raise InputError(f"{where}: its weight is {stored.dtype}; convert the base to floats first")
    a, b = adapter.stored(change.a).shape, adapter.stored(change.b).shape
    plain, transposed = (b[0], *a[1:]), (*a[1:], b[0])
    fits_plain = stored.shape == plain and not change.is_embedding
    fits_transposed = stored.shape == transposed and len(a) == 2
    if not (fits_plain or fits_transposed):
        raise InputError(
            f"{where}: changes a weight of shape {transposed if change.is_embedding else plain}, "
            f"the base's is {stored.shape}; name the base that it was trained on"
        )
    # The flag decides only for square weights: PEFT, too, overrides it by the kind of layer.
    is_transposed = fits_transposed and (adapter.config.fan_in_fan_out or not fits_plain)
    if change.magnitude is not None:
        length = adapter.stored(change.magnitude)
        lengths = (b[0],) if len(a) == 2 else (1, b[0], *[1] * (len(a) - 2))
        if is_transposed or length.shape != lengths:
            raise InputError(
                f"{where}: DoRA is supported for weights (out, in) with norms (out,), and for "
                f"convolutions with (1, out, 1...), got {stored.shape} and {length.shape}; merge "
                "it with PEFT"
            )
    return replace(change, is_transposed=is_transposed)


def _changed(adapter: Adapter, change: LowRank, stored: StoredTensor) -> StoredTensor:
    """Return the type of a changed weight, and the number of bytes read for it."""
    factors = [adapter.stored(change.a), adapter.stored(change.b)]
    dtypes = [torch.float32, *(tensor.dtype for tensor in (stored, *factors))]
    widest = max(dtypes, key=lambda dtype: dtype.itemsize)
    num_bytes = stored.num_bytes + sum(factor.num_bytes for factor in factors)
    return StoredTensor(factors[0].file, widest, stored.shape, 0, num_bytes)
