"""Merging adapters with each other, without a base, into an adapter."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.disk_merging.merge_file import MergeFile, Scalar, Value, value_at
from stockpot.disk_merging.pedigree import (
    check_unchanged,
    pedigree_metadata,
    read_pedigree,
    recorded_models,
)
from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.checkpoints import save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.disk_merging.low_rank import Truncated
    from stockpot.storage.weights.adapters import Adapter, LowRank


@dataclass(frozen=True, slots=True)
class MergedAdapter:
    """What was written.

    Attributes:
        ranks: of each module's factors.
        error: Frobenius norm of what truncation left out; 0 without.
        norm: Frobenius norm of the whole change.
    """

    ranks: Mapping[str, int]
    error: float
    norm: float

    @property
    def summary(self) -> str:
        """The modules, their ranks, and how exact they are."""
        least, largest = min(self.ranks.values()), max(self.ranks.values())
        ranks = f"rank {least}" if least == largest else f"ranks {least} to {largest}"
        exactness = (
            f"Frobenius error {self.error:.4g} of {self.norm:.4g}" if self.error else "exact"
        )
        return f"{len(self.ranks)} modules, {ranks}, {exactness}"


@dataclass(frozen=True)
class AdapterMergeJob:
    """One merge of adapters into an adapter.

    Attributes:
        file: how they are merged, with `output: adapter`.
        folder: to which paths in it are relative.
        place: the folder where the merged adapter will be.
    """

    file: MergeFile
    folder: Path
    place: Path

    @cached_property
    def adapters(self) -> list[Adapter]:
        """The adapters, opened.

        Raises:
            InputError: a model is no adapter, or one that has no exact sum with others.
        """
        from stockpot.storage.weights.adapters import is_adapter, open_adapter

        paths = [self.folder / Path(entry.path).expanduser() for entry in self.file.entries]
        for path in paths:
            if not is_adapter(path):
                raise InputError(f"{path}: must be an adapter for `output: adapter`")
        return [open_adapter(path) for path in paths]

    @property
    def modules(self) -> list[str]:
        """All modules that some adapter changes, in their order there."""
        return list(dict.fromkeys(m for adapter in self.adapters for m in adapter.changes))

    @cached_property
    def pedigree(self) -> dict[str, Any]:
        """All that the merged factors depend on; it reads every input once, for its digest."""
        return {
            "version": version("stockpot"),
            "output": "adapter",
            "method": self.file.method,
            "options": self.file.options,
            "seed": self.file.seed,
            "dtype": self.file.dtype,
            "rank": self.file.rank,
            "models": [
                {"path": e.path, "digest": adapter.digest, "coefficient": e.coefficient}
                for adapter, e in zip(self.adapters, self.file.entries, strict=True)
            ],
            "base": None,
        }

    def check(self) -> None:
        """Refuse what cannot be done, before any factor is read.

        Raises:
            InputError: with what is wrong.
        """
        if self.place.exists():
            raise InputError(f"{self.place}: is there already; remove it or name another place")
        if self.place.suffix == ".safetensors":
            raise InputError(f"{self.place}: an adapter is a folder; name one")
        if not self.place.absolute().parent.is_dir():
            raise InputError(f"{self.place.absolute().parent}: no such folder")
        for adapter in self.adapters:
            _check_low_rank_alone(adapter)
        _check_one_base(self.adapters)
        for module in self.modules:
            _check_shapes(module, self.adapters)
            self._multipliers(module)

    def run(self) -> MergedAdapter:
        """Merge, and write the folder, which appears when it is whole.

        Raises:
            InputError: a value is not finite.
        """
        merged = {module: self._merged(module) for module in self.modules}
        result = MergedAdapter(
            ranks={module: len(change.a) for module, change in merged.items()},
            error=math.hypot(*(change.error for change in merged.values())),
            norm=math.hypot(*(change.norm for change in merged.values())),
        )
        tensors: dict[str, Tensor] = {}
        for module, change in merged.items():
            _, first = self._changes(module)[0]
            tensors |= {first.a: change.a, first.b: change.b}
        self._write(tensors, result)
        return result

    def _changes(self, module: str) -> list[tuple[int, LowRank]]:
        """List the changes of a module, each with the number of its adapter."""
        return [
            (number, adapter.changes[module])
            for number, adapter in enumerate(self.adapters)
            if module in adapter.changes
        ]

    def _multipliers(self, module: str) -> list[float]:
        """Return what each adapter's change of a module is multiplied by, scaling left aside.

        A linear method says so itself: of unit vectors it makes the vector of its factors.
        """
        import torch

        from stockpot.merging.recipe import Recipe
        from stockpot.merging.registry import METHODS

        name = f"{module}.weight"
        recipe = Recipe(
            self.file.method,
            tuple(float(_value(e.coefficient, name)) for e in self.file.entries),
            {option: _value(value, name) for option, value in self.file.options.items()},
        )
        needs_base = METHODS[self.file.method].needs_base
        recipe.check(has_base=needs_base)
        units = torch.eye(len(self.adapters), dtype=torch.float64)
        base = torch.zeros_like(units[0]) if needs_base else None
        multipliers: list[float] = recipe.merge(name, list(units), base).tolist()
        return multipliers

    def _merged(self, module: str) -> Truncated:
        """Sum the changes of a module; in float32 or wider, rounded once."""
        import torch

        from stockpot.disk_merging.low_rank import concatenate, truncate

        multipliers = self._multipliers(module)
        factors, scalings = [], []
        for number, change in self._changes(module):
            weights = self.adapters[number].weights
            factors.append((weights.read(change.a).double(), weights.read(change.b).double()))
            scalings.append(change.scaling * multipliers[number])
        a, b = concatenate(factors, scalings)
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise InputError(f"module {module!r}: a factor or a scaling has values not finite")
        merged = truncate(a, b, self.file.rank or len(a))
        dtype = getattr(torch, self.file.dtype or "float32")
        rounded = replace(merged, a=merged.a.to(dtype), b=merged.b.to(dtype))
        if not (torch.isfinite(rounded.a).all() and torch.isfinite(rounded.b).all()):
            raise InputError(f"module {module!r}: too large for {dtype}; choose a wider dtype")
        return rounded

    def _write(self, tensors: Mapping[str, Tensor], result: MergedAdapter) -> None:
        from stockpot.storage.weights.adapter_config import CONFIG, config_for_peft
        from stockpot.storage.weights.adapters import WEIGHTS
        from stockpot.storage.weights.output import sole_writer

        with sole_writer(self.place):
            self.check()
            work = self.place.with_name(f".{self.place.name}.merging")
            if work.exists():
                shutil.rmtree(work)
            work.mkdir()
            save_checkpoint(work / WEIGHTS, tensors, pedigree_metadata(self.pedigree))
            config = config_for_peft(self.adapters[0].config, result.ranks)
            write_text(work / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
            write_text(work / "README.md", self._card(result))
            work.rename(self.place)

    def _card(self, result: MergedAdapter) -> str:
        """Return the model card: what was merged, how, and how exact the result is."""
        rows = [
            f"| {Path(m['path']).name} | {m['coefficient']} | `{m['digest'][:16]}` |"
            for m in self.pedigree["models"]
        ]
        return (
            "---\nlibrary_name: peft\ntags: [merge, stockpot, lora]\n---\n\n"
            f"# {self.place.name}\n\n"
            f"Adapters merged by stockpot {self.pedigree['version']} with `{self.file.method}`: "
            f"{result.summary}.\n\n"
            "| adapter | coefficient | SHA-256 |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        )


def rebuild_adapter(path: Path, place: Path, folder: Path) -> AdapterMergeJob:
    """Return the merge that made an adapter, to make it again.

    Args:
        path: the merged adapter.
        place: where it will be made again.
        folder: to which the paths of its inputs are relative.

    Raises:
        InputError: an input is missing, or is not what it was.
    """
    pedigree = read_pedigree(path)
    fields = ("output", "method", "options", "seed", "dtype", "rank")
    file = MergeFile.model_validate(
        {field: pedigree[field] for field in fields} | {"models": recorded_models(pedigree)}
    )
    job = AdapterMergeJob(file, folder, place)
    for adapter, record in zip(job.adapters, pedigree["models"], strict=True):
        check_unchanged(adapter.path, adapter.digest, record["digest"])
    return job


def _value(value: Value, name: str) -> Scalar:
    """Return what a value is for one weight; the depth of the net is not known from adapters."""
    shallow, deep = value_at(value, name, 0.0), value_at(value, name, 1.0)
    if shallow != deep:
        raise InputError(
            f"tensor {name!r}: {value} goes over the depth of the base, which adapters do not "
            "tell; use filters, or merge them onto the base"
        )
    return shallow


def _check_low_rank_alone(adapter: Adapter) -> None:
    """Refuse changes that have no exact sum without the base."""
    whole = sorted(adapter.replaced)[:3]
    if whole:
        raise InputError(
            f"{adapter.path}: replaces tensors whole ({whole}); merge it onto its base instead"
        )
    if adapter.config.use_dora:
        raise InputError(f"{adapter.path}: DoRA is no sum; merge it onto its base instead")
    if not adapter.changes:
        raise InputError(f"{adapter.path}: changes nothing, expected LoRA factors")


def _check_one_base(adapters: Sequence[Adapter]) -> None:
    first = adapters[0]
    for adapter in adapters:
        if adapter.config.base != first.config.base:
            raise InputError(
                f"{adapter.path}: base_model_name_or_path is {adapter.config.base!r}, that of "
                f"{first.path} is {first.config.base!r}; merge adapters of one base"
            )


def _check_shapes(module: str, adapters: Sequence[Adapter]) -> None:
    """Refuse changes of one module that are for different weights."""
    seen: dict[tuple[object, ...], Path] = {}
    for adapter in adapters:
        if change := adapter.changes.get(module):
            a, b = adapter.stored(change.a).shape, adapter.stored(change.b).shape
            seen.setdefault((b[0], *a[1:], *b[2:], change.is_embedding), adapter.path)
    if len(seen) > 1:
        (one, first), (other, second) = list(seen.items())[:2]
        raise InputError(
            f"{second}: module {module!r}: changes a weight of shape {other[:-1]}, {first} one of "
            f"{one[:-1]}; merge adapters of one base"
        )
