"""Merge adapters into one adapter, without their base."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stockpot.disk_merging.adapters.core_space import cores_of, merge_cores
from stockpot.disk_merging.adapters.low_rank import Truncated, concatenate, truncate
from stockpot.disk_merging.merge_files.values import Scalar, Value, value_at
from stockpot.disk_merging.pedigree import RecordedMerge, pedigree_metadata, pedigree_of
from stockpot.disk_merging.planning.recipes import TensorRecipes
from stockpot.disk_merging.side_files.cards import adapter_card
from stockpot.errors import InputError
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS
from stockpot.storage.atomic_files import write_text
from stockpot.storage.checkpoints import save_checkpoint
from stockpot.storage.hub import model_path
from stockpot.storage.weights.adapter_config import CONFIG, config_for_peft
from stockpot.storage.weights.adapters import WEIGHTS, Adapter, is_adapter, open_adapter
from stockpot.storage.weights.hub_origins import repository
from stockpot.storage.weights.places import check_apart, publish, sole_place


@dataclass(frozen=True, slots=True)
class MergedAdapter:
    """The result of a merge.

    Attributes:
        ranks: of the factors, by module.
        error: Frobenius norm of the part removed by truncation; 0 without truncation.
        norm: Frobenius norm of the whole change.
    """

    ranks: Mapping[str, int]
    error: float
    norm: float

    @property
    def summary(self) -> str:
        """The number of modules, their ranks, and the truncation error, in words."""
        least, largest = min(self.ranks.values()), max(self.ranks.values())
        ranks = f"rank {least}" if least == largest else f"ranks {least} to {largest}"
        exactness = (
            f"Frobenius error {self.error:.4g} of {self.norm:.4g}" if self.error else "exact"
        )
        modules = "1 module" if len(self.ranks) == 1 else f"{len(self.ranks)} modules"
        return f"{modules}, {ranks}, {exactness}"


class AdapterMergeJob(RecordedMerge):
    """One merge of adapters into the folder of an adapter."""

    merges_on_devices = False

    @cached_property
    def inputs(self) -> list[Adapter]:
        """The adapters, opened.

        Raises:
            InputError: a model is not an adapter, or is damaged.
        """
        paths = [model_path(self.folder, entry.path) for entry in self.file.entries]
        for path in paths:
            if not is_adapter(path):
                raise InputError(f"{path}: must be an adapter for `output: adapter`")
        return [open_adapter(path) for path in paths]

    @property
    def files(self) -> list[Path]:
        """The files of factors."""
        return [file for adapter in self.inputs for file in adapter.weights.files]

    @property
    def modules(self) -> list[str]:
        """All modules that an adapter changes, in order of first appearance."""
        return list(dict.fromkeys(m for adapter in self.inputs for m in adapter.changes))

    @cached_property
    def pedigree(self) -> dict[str, Any]:
        """All that the merged factors depend on; reads every input once, for its digest."""
        digests = [adapter.digest_by(self.algorithm) for adapter in self.inputs]
        more: dict[str, Any] = {"core_space": True} if self.file.core_space else {}
        return pedigree_of(self.file, digests, output="adapter", rank=self.file.rank, **more)

    def check_models(self) -> None:
        """Refuse adapters that cannot be merged, before any factor is read."""
        if self.place.suffix == ".safetensors":
            raise InputError(f"{self.place}: an adapter is a folder; name one")
        check_apart(self.place, [adapter.path for adapter in self.inputs])
        for adapter in self.inputs:
            check_mergeable(adapter, self.inputs[0])
        for module in self.modules:
            _check_shapes(module, self.inputs)
            if self.file.core_space:
                self._core_recipe(f"{module}.weight").check(has_base=True)
            else:
                self._multipliers(module)

    def run(self) -> MergedAdapter:
        """Merge, and write the folder, which appears once it is complete.

        Raises:
            InputError: a value is not finite.
        """
        sums = self._sums()
        merged = {module: self._truncated(module, *sums[module]) for module in self.modules}
        result = MergedAdapter(
            ranks={module: len(change.a) for module, change in merged.items()},
            error=math.hypot(*(change.error for change in merged.values())),
            norm=math.hypot(*(change.norm for change in merged.values())),
        )
        tensors: dict[str, Tensor] = {}
        for module, change in merged.items():
            named = next(a.changes[module] for a in self.inputs if module in a.changes)
            tensors |= {named.a: change.a, named.b: change.b}
        self._write(tensors, result)
        return result

    def _multipliers(self, module: str) -> list[float]:
        """Return the factor on each adapter's change of a module, without its scaling.

        A linear method maps the M unit vectors to the vector of its factors.
        """
        name = f"{module}.weight"
        recipe = Recipe(
            self.file.method,
            tuple(float(_value(e.coefficient, name)) for e in self.file.entries),
            {option: _value(value, name) for option, value in self.file.options.items()},
        )
        needs_base = METHODS[self.file.method].needs_base
        recipe.check(has_base=needs_base)
        units = torch.eye(len(self.inputs), dtype=torch.float64)
        base = torch.zeros_like(units[0]) if needs_base else None
        return recipe.merge(name, list(units), base).tolist()

    def _sums(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the factors of the merged change of each module, float64."""
        if not self.file.core_space:
            return {module: self._sum(module) for module in self.modules}
        weights = {f"{module}.weight": module for module in self.modules}
        cores = {name: cores_of(module, self.inputs) for name, module in weights.items()}
        merged = merge_cores(cores, self._core_recipe)
        return {weights[name]: factors for name, factors in merged.items()}

    def _core_recipe(self, name: str) -> Recipe:
        """Return the recipe of the cores of a weight.

        Raises:
            InputError: the method cannot merge cores.
        """
        file = self.file
        if METHODS[file.method].side_information is not None:
            raise InputError(
                f"{file.method}: needs data, which a merge of files does not have; use it in an "
                "experiment: params.yaml, soups.N.method"
            )
        per_model = [value for entry in file.entries for value in entry.options.values()]
        coefficients = [entry.coefficient for entry in file.entries]
        for value in (*coefficients, *file.options.values(), *per_model):
            _value(value, name)
        if file.options.get("lines_beta", 0) != 0:
            raise InputError(
                f"{file.method}: lines_beta varies with depth, which is unknown without the base; "
                "merge onto the base"
            )
        weights = [adapter.weights for adapter in self.inputs]
        return TensorRecipes(file, weights, self.algorithm)(name)

    def _sum(self, module: str) -> tuple[Tensor, Tensor]:
        """Sum the changes of a module in float64."""
        factors, scalings = [], []
        for adapter, multiplier in zip(self.inputs, self._multipliers(module), strict=True):
            if change := adapter.changes.get(module):
                a, b = (adapter.weights.read(name).double() for name in (change.a, change.b))
                factors.append((a, b))
                scalings.append(change.scaling * multiplier)
        a, b = concatenate(factors, scalings)
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise InputError(f"module {module!r}: a factor or scaling is not finite")
        return a, b

    def _truncated(self, module: str, a: Tensor, b: Tensor) -> Truncated:
        """Limit the rank of a module's change, and round it once."""
        merged = truncate(a, b, self.file.rank or len(a))
        dtype = getattr(torch, self.file.dtype or "float32")
        rounded = replace(merged, a=merged.a.to(dtype), b=merged.b.to(dtype))
        if not (torch.isfinite(rounded.a).all() and torch.isfinite(rounded.b).all()):
            raise InputError(f"module {module!r}: too large for {dtype}; choose a wider dtype")
        return rounded

    def _write(self, tensors: Mapping[str, Tensor], result: MergedAdapter) -> None:
        with sole_place(self.place):
            self.check()
            work = self.place.with_name(f".{self.place.name}.merging")
            if work.exists():
                shutil.rmtree(work)
            work.mkdir()
            save_checkpoint(work / WEIGHTS, tensors, pedigree_metadata(self.pedigree))
            config = config_for_peft(self.inputs[0].config, result.ranks)
            write_text(work / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
            base = repository(self.inputs[0].config.base)
            card = adapter_card(self.place.name, self.file, self.pedigree, result.summary, base)
            write_text(work / "README.md", card)
            publish(work, self.place)


def _value(value: Value, name: str) -> Scalar:
    """Return the value for one weight; adapters alone do not determine its depth in the model."""
    shallow, deep = value_at(value, name, 0.0), value_at(value, name, 1.0)
    if shallow != deep:
        raise InputError(
            f"tensor {name!r}: {value} varies with depth, which is unknown without the base; use "
            "filters, or merge onto the base"
        )
    return shallow


def check_mergeable(adapter: Adapter, first: Adapter) -> None:
    """Refuse changes that cannot be merged with those of the first adapter without the base.

    Raises:
        InputError: they are no low-rank changes of the same base.
    """
    whole = sorted(adapter.replaced)[:3]
    if whole:
        raise InputError(
            f"{adapter.path}: replaces whole tensors ({whole}); merge it onto its base instead"
        )
    if adapter.config.use_dora:
        raise InputError(f"{adapter.path}: DoRA is not additive; merge it onto its base instead")
    if not adapter.changes:
        raise InputError(f"{adapter.path}: changes nothing, expected LoRA factors")
    if adapter.config.base != first.config.base:
        raise InputError(
            f"{adapter.path}: base_model_name_or_path is {adapter.config.base!r}, that of "
            f"{first.path} is {first.config.base!r}; merge adapters of one base"
        )


def _check_shapes(module: str, adapters: Sequence[Adapter]) -> None:
    """Refuse changes of one module that fit weights of different shapes."""
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
