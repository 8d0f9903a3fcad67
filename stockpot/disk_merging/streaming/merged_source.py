"""A merge within another merge: a model whose tensors are merged when they are read.

Nothing is written between the two. A tensor is read run by run if the inner method merges it so;
otherwise it is computed whole, once, and kept while its runs are read.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, cast

import torch
from torch import Tensor

from stockpot.disk_merging.pedigree import DigestOf, digest_of_pedigree
from stockpot.disk_merging.planning.plan import TensorPlan
from stockpot.disk_merging.streaming.devices import CPU, Device
from stockpot.disk_merging.streaming.planned_tensors import (
    Merged,
    extra_rows,
    is_elementwise,
    is_large,
    merge_run,
    merge_whole,
    read_run,
    read_whole,
    runs_of,
    torch_threads,
)
from stockpot.disk_merging.streaming.stream import spreading, with_models_measured
from stockpot.errors import InputError, at_place
from stockpot.merging.runs import runs_with
from stockpot.storage.digests import Algorithm, FileState
from stockpot.storage.weights.safetensors_format import StoredTensor
from stockpot.storage.weights.sources import Source

_KEPT_BYTES = 2**28  # of computed tensors and runs; the last one is kept whatever its size


class _Kept:
    """Values that are computed once: of several threads that ask for one, the first computes it."""

    def __init__(self, num_bytes: float = math.inf) -> None:
        """Keep all values; or of tensors the latest ones, up to a size."""
        self._most = num_bytes
        self._lock = Lock()
        self._values: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return a value, computed if it is not kept."""
        with self._lock:
            is_new = key not in self._values
            value = self._values.setdefault(key, Future())
            self._values.move_to_end(key)
        if is_new:
            try:
                value.set_result(compute())
            except BaseException as error:
                value.set_exception(error)
                with self._lock:
                    del self._values[key]
                raise
            if self._most < math.inf:
                self._forget_oldest()
        return value.result()

    def _forget_oldest(self) -> None:
        """Forget values beyond the size, but the latest; whoever uses one still has it."""
        with self._lock:
            sizes = {key: v.result().nbytes for key, v in self._values.items() if v.done()}
            for key in [*sizes][:-1]:
                if sum(sizes.values()) <= self._most:
                    return
                del self._values[key], sizes[key]


@dataclass(kw_only=True)
class MergedSource(Source):
    """The result of a merge, not on disk.

    Its floating-point tensors are in the dtype in which they are merged, float32 or wider, unless
    the merge says which dtype they are rounded to.

    Attributes:
        plans: one per tensor.
        inputs: the models that it merges, then its base if there is one.
        nested: those of them that are merges themselves, by the keys of their entries.
        leaves: the models on disk that it is made of.
        record: returns the pedigree of the merge with the digests of a function.
        output_dtypes: of its tensors, if they were written.
        device: on which they are merged.
    """

    plans: Mapping[str, TensorPlan]
    inputs: Sequence[Source]
    nested: Mapping[str, MergedSource]
    leaves: Sequence[Source]
    record: Callable[[DigestOf], dict[str, Any]]
    output_dtypes: Mapping[str, torch.dtype]
    device: Device = CPU
    _side_files: Path | None = None
    _computed: _Kept = field(default_factory=lambda: _Kept(_KEPT_BYTES))
    _measured: _Kept = field(default_factory=_Kept)

    @property
    def folder(self) -> Path | None:
        """The temporary folder with config and tokenizer; None without."""
        return self._side_files

    def add_side_files(self, write: Callable[[Path], None]) -> None:
        """Write config and tokenizer into a temporary folder, which lives as long as the model.

        Args:
            write: writes them into a folder.
        """
        temporary = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        self._side_files = temporary / self.path.name  # as messages name it
        self._side_files.mkdir()
        write(self._side_files)

    def output_dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a merged tensor that follows this model: as if it were written."""
        return self.output_dtypes[name]

    def may_round_to_zero(self, name: str) -> bool:
        """Return whether zeros of a tensor may be small values."""
        return any(o.source.may_round_to_zero(o.name) for o in self.plans[name].origins)

    def bytes_to_compute(self, name: str) -> int:
        """Return the memory that reading any element of a tensor takes, if all are computed."""
        plan = self.plans[name]
        of_inputs = sum(origin.bytes_to_compute for origin in plan.origins)
        measures = plan.recipe.method_itself.measure is not None
        if is_elementwise(plan) and not measures and not of_inputs:
            return 0
        itemsize = plan.working_dtype.itemsize
        return (len(plan.inputs) + 2) * plan.num_elements * itemsize + of_inputs

    @property
    def bytes_kept(self) -> int:
        """The memory that computed tensors take at most, besides the one in use."""
        own = sum(p.num_elements * p.type[0].itemsize for p in self.plans.values())
        return min(own, _KEPT_BYTES) + sum(inner.bytes_kept for inner in self.nested.values())

    @property
    def states(self) -> list[FileState]:
        """The states of the files of all models that are merged."""
        return [state for model in self.inputs for state in model.states]

    def digest_by(self, algorithm: Algorithm) -> str:
        """Return the digest of all that the merged weights depend on."""
        return digest_of_pedigree(self.record(lambda one: one.digest_by(algorithm)), algorithm)

    def read_run(self, name: str, first: int, last: int) -> Tensor:
        """Return the elements [first, last) of a flattened tensor.

        Raises:
            InputError: a value is not finite, or the method cannot merge them.
        """
        try:
            return self._merged(self._ready[name], first, last)
        except InputError as error:
            raise at_place(str(self.path), error) from error

    def _merged(self, plan: TensorPlan, first: int, last: int) -> Tensor:
        end = min(last, plan.num_elements)
        parts = [self._elements(plan, first, end)] if first < end else []
        if end < last:
            parts.append(extra_rows(plan, max(first, end), last))
        return torch.cat(parts) if parts else torch.empty(0, dtype=plan.type[0])

    def _elements(self, plan: TensorPlan, first: int, last: int) -> Tensor:
        """Return merged elements: of the whole tensor, or of the runs that they are in."""
        if not is_elementwise(plan):
            whole = self._computed.get(plan.name, lambda: self._whole(plan))
            return cast("Tensor", whole[first:last])
        runs = []
        for start, end in runs_with(first, last, plan.num_elements, plan.row):
            run = self._run(plan, start, end, is_kept=start < first or last < end)
            runs.append(run[max(first - start, 0) : last - start])
        return torch.cat(runs) if len(runs) > 1 else runs[0]

    def _run(self, plan: TensorPlan, start: int, end: int, *, is_kept: bool) -> Tensor:
        """Return a run of merged elements; kept if only some are used now."""

        def merge() -> Tensor:
            measured = self._measured.get(plan.name, lambda: self._measure(plan))
            with torch_threads(1):
                inputs = read_run(plan, start, end, self.device)()
                return self._fetched(merge_run(plan, measured, start, inputs))

        return self._computed.get((plan.name, start), merge) if is_kept else merge()

    def _whole(self, plan: TensorPlan) -> Tensor:
        return self._fetched(merge_whole(plan, read_whole(plan), self.device))

    def _fetched(self, merged: Merged) -> Tensor:
        return self.device.fetch(merged.rounded)().reshape(-1)

    def _measure(self, plan: TensorPlan) -> Any:
        if not is_large(plan):
            return plan.recipe.measured(plan.name, runs_of(plan, device=self.device))
        with spreading(self.device.num_threads) as (_, spread):
            return plan.recipe.measured(plan.name, runs_of(plan, spread, self.device))

    @property
    def _ready(self) -> Mapping[str, TensorPlan]:
        """The plans with measurements of whole models."""
        num_threads = self.device.num_threads
        ready: Mapping[str, TensorPlan] = self._measured.get(
            None, lambda: with_models_measured([*self.plans.values()], num_threads, self.device)
        )
        return ready


def as_read(plan: TensorPlan, path: Path, is_rounded: bool) -> tuple[TensorPlan, StoredTensor]:
    """Return the plan of a tensor that is not written, and how it appears to the outer merge.

    Args:
        plan: as if it were written.
        path: the place of the merge in the merge file, for messages.
        is_rounded: whether it is rounded to the dtype in which it would be written.
    """
    dtype, shape = plan.type
    if dtype.is_floating_point and not is_rounded:
        dtype = plan.working_dtype
    stored = StoredTensor(path, dtype, shape, 0, plan.num_input_bytes)
    return replace(plan, type=(dtype, shape)), stored
