"""Merging models on disk: planned from headers, forecast, done, and told in a model card."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.atomic_files import write_text
from stockpot.config.merge import MergeFile, load_merge, value_at
from stockpot.errors import InputError
from stockpot.keys import content_key

if TYPE_CHECKING:
    from stockpot.merging.merge_plan import TensorPlan
    from stockpot.merging.recipe import Recipe
    from stockpot.weight_files import ShardedOutput, Source

PEDIGREE = "stockpot.merge"  # the name of the pedigree in a header
_MAX_SHARD_BYTES = 5_000_000_000
_LAYER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")
_LAST = re.compile(r"head|norm|score|classifier|pooler")  # used after the layers
# Beside the weights: configuration, tokenizer and generation settings.
_COPIED = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")


@dataclass(frozen=True)
class MergeJob:
    """One merge of models on disk.

    Attributes:
        file: how they are merged, our own form.
        folder: to which paths in it are relative.
        place: where the merged model will be: a folder, or a name that ends in `.safetensors`.
    """

    file: MergeFile
    folder: Path
    place: Path

    @classmethod
    def read(cls, config: Path, place: Path) -> MergeJob:
        """Read a merge file.

        Raises:
            InputError: it says what cannot be done.
        """
        return cls(load_merge(config), config.parent, place)

    @cached_property
    def sources(self) -> list[Source]:
        """The models, opened."""
        from stockpot.weight_files import open_source

        return [open_source(self._path(entry.path)) for entry in self.file.entries]

    @cached_property
    def base(self) -> Source | None:
        """The base, opened."""
        from stockpot.weight_files import open_source

        return None if self.file.base is None else open_source(self._path(self.file.base))

    @cached_property
    def plans(self) -> list[TensorPlan]:
        """What is done for each tensor.

        Raises:
            InputError: the models do not belong together, or the method cannot merge them so.
        """
        import torch

        from stockpot.merging.merge_plan import plan_merge

        dtype = None if self.file.dtype is None else getattr(torch, self.file.dtype)
        plans = plan_merge(self.sources, self.base, self._recipe_of, dtype)
        different = {repr((plan.recipe.coefficients, plan.recipe.options)): plan for plan in plans}
        for plan in different.values():
            plan.recipe.check(has_base=self.base is not None)
        return plans

    @cached_property
    def output(self) -> ShardedOutput:
        """The files of the merged model, laid out."""
        from stockpot.weight_files import ShardedOutput

        types = {plan.name: plan.type for plan in self.plans}
        metadata = {"format": "pt", PEDIGREE: json.dumps(self.pedigree, sort_keys=True)}
        return ShardedOutput(self.place, types, metadata, _MAX_SHARD_BYTES)

    @cached_property
    def pedigree(self) -> dict[str, Any]:
        """All that the merged weights depend on; it reads every input once, for its digest."""
        inputs = [*self.sources, *([self.base] if self.base else [])]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(lambda source: source.digest, inputs))
        return {
            "version": version("stockpot"),
            "method": self.file.method,
            "options": self.file.options,
            "seed": self.file.seed,
            "dtype": self.file.dtype,
            "models": [
                {
                    "path": entry.path,
                    "digest": source.digest,
                    "coefficient": entry.coefficient,
                }
                for source, entry in zip(self.sources, self.file.entries, strict=True)
            ],
            "base": self.base and {"path": self.file.base, "digest": self.base.digest},
        }

    @property
    def forecast(self) -> dict[str, float]:
        """What it will take: GB read, written and in memory, from headers alone."""
        written = sum(plan.num_elements * plan.type[0].itemsize for plan in self.plans)
        largest = max((plan.num_elements for plan in self.plans), default=0)
        return {
            "GB to read": sum(plan.num_input_bytes for plan in self.plans) / 1e9,
            "GB to write": written / 1e9,
            "GB of memory at most": (len(self.sources) + 2) * 4 * largest / 1e9,
            "GB free on the disk": shutil.disk_usage(self.place.absolute().parent).free / 1e9,
        }

    def check(self) -> None:
        """Refuse what cannot be done, before any weight is read.

        Raises:
            InputError: with what is wrong.
        """
        if self.place.exists():
            raise InputError(f"{self.place}: is there already; remove it or name another place")
        if not self.place.absolute().parent.is_dir():
            raise InputError(f"{self.place.absolute().parent}: no such folder")
        assert self.plans is not None

    def run(self, on_bytes: Callable[[int], None]) -> None:
        """Merge; what was interrupted goes on with the first shard that was not finished.

        Raises:
            InputError: the place cannot take it, or a value is not finite.
        """
        from stockpot.merging.stream import merge_to_disk

        self.output.check()
        merge_to_disk(
            self.plans,
            self.output,
            content_key(**self.pedigree),
            num_threads=os.cpu_count() or 1,
            on_bytes=on_bytes,
            write_beside=self._write_beside,
        )

    def _write_beside(self, folder: Path) -> None:
        """Copy config and tokenizer, and write the model card."""
        origin = (
            self._path(self.file.config_from)
            if self.file.config_from
            else (self.base or self.sources[0]).path
        )
        if origin.is_dir():
            for pattern in _COPIED:
                for file in sorted(origin.glob(pattern)):
                    if not file.name.endswith(".index.json"):
                        shutil.copy(file, folder)
        write_text(folder / "README.md", self._card())

    def _card(self) -> str:
        """Return the model card: what was merged, how, and how to make it again."""
        rows = [
            f"| {Path(m['path']).name} | {m['coefficient']} | `{m['digest'][:16]}` |"
            for m in self.pedigree["models"]
        ]
        base = self.pedigree["base"]
        based = f"Base: {Path(base['path']).name} (`{base['digest'][:16]}`).\n\n" if base else ""
        return (
            "---\ntags: [merge, stockpot]\n---\n\n"
            f"# {self.place.name}\n\n"
            f"Merged by stockpot {self.pedigree['version']} with `{self.file.method}`"
            f"{_listed(self.file.options)}.\n\n{based}"
            "| model | coefficient | SHA-256 |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
            "The whole pedigree stands in the header of the weights: `stockpot explain` prints "
            "it, `stockpot verify` makes the model again and compares.\n"
        )

    def _path(self, path: str) -> Path:
        return self.folder / Path(path).expanduser()

    def _recipe_of(self, name: str) -> Recipe:
        from stockpot.merging.recipe import Recipe

        depth = self._depth(name)
        return Recipe(
            self.file.method,
            tuple(float(value_at(e.coefficient, name, depth)) for e in self.file.entries),
            {option: value_at(v, name, depth) for option, v in self.file.options.items()},
            self.file.seed,
            tuple(source.digest for source in self.sources) if self._draws else (),
        )

    @property
    def _draws(self) -> bool:
        from stockpot.merging import METHODS

        return self.file.method in METHODS and METHODS[self.file.method].is_random

    @cached_property
    def _last_layer(self) -> int:
        layers = [
            int(found.group(1))
            for name in self.sources[0].tensors
            if (found := _LAYER.search(name))
        ]
        return max(layers, default=0)

    def _depth(self, name: str) -> float:
        """Say how deep in the net a tensor is used, from 0 to 1."""
        if found := _LAYER.search(name):
            return int(found.group(1)) / (self._last_layer or 1)
        return 1.0 if _LAST.search(name) else 0.0


def read_pedigree(path: Path) -> dict[str, Any]:
    """Read how a merged model was made, from the header of its weights.

    Raises:
        InputError: it was not made by `stockpot merge`.
    """
    from stockpot.weight_files import open_source

    text = open_source(path).metadata.get(PEDIGREE)
    if text is None:
        raise InputError(f"{path}: its header has no pedigree; `stockpot merge` writes one")
    pedigree: dict[str, Any] = json.loads(text)
    return pedigree


def rebuild(path: Path, place: Path, folder: Path) -> MergeJob:
    """Return the merge that made a model, to make it again.

    Args:
        path: the merged model.
        place: where it will be made again.
        folder: to which the paths of its inputs are relative.

    Raises:
        InputError: an input is missing, or is not what it was.
    """
    pedigree = read_pedigree(path)
    base = pedigree["base"]
    file = MergeFile.model_validate(
        {
            "method": pedigree["method"],
            "options": pedigree["options"],
            "seed": pedigree["seed"],
            "dtype": pedigree["dtype"],
            "models": [
                {"path": model["path"], "coefficient": model["coefficient"]}
                for model in pedigree["models"]
            ],
            "base": base and base["path"],
        }
    )
    job = MergeJob(file, folder, place)
    recorded = [*pedigree["models"], *([base] if base else [])]
    sources = [*job.sources, *([job.base] if job.base else [])]
    for source, record in zip(sources, recorded, strict=True):
        if source.digest != record["digest"]:
            raise InputError(
                f"{source.path}: digest is {source.digest[:12]}, the pedigree says "
                f"{record['digest'][:12]}; it is not the model that was merged"
            )
    return job


def _listed(options: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name}: {value}" for name, value in options.items())
    return f" ({shown})" if shown else ""
