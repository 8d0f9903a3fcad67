"""Write weight signatures into a patch: a small file that can be added to models later."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from stockpot.disk_merging.pedigree import pedigree_metadata
from stockpot.disk_merging.planning.plan import TensorPlan
from stockpot.disk_merging.signatures.patches import grid_name, patch_layout, patch_metadata
from stockpot.disk_merging.signatures.signature_job import SignatureJob
from stockpot.disk_merging.streaming.freed_memory import retain_freed_memory
from stockpot.disk_merging.streaming.planned_tensors import check_finite, runs_of
from stockpot.errors import InputError
from stockpot.merging.methods.weight_signatures import measure_shares, sum_of_signatures
from stockpot.merging.quantization import Grid, pack
from stockpot.merging.runs import Run
from stockpot.storage.digests import digest_in_background
from stockpot.storage.weights.output import ShardedOutput, ShardWriter
from stockpot.storage.weights.sources import Source


@dataclass(frozen=True, slots=True)
class Coded:
    """Differences between signatures and their codes.

    Attributes:
        largest: magnitude of the largest one.
        squared_error: sum of their squares.
        squared_norm: sum of the squares of the signatures.
    """

    largest: float = 0.0
    squared_error: float = 0.0
    squared_norm: float = 0.0

    def __add__(self, other: Coded) -> Coded:
        return Coded(
            max(self.largest, other.largest),
            self.squared_error + other.squared_error,
            self.squared_norm + other.squared_norm,
        )

    @property
    def relative(self) -> float:
        """Norm of the differences, relative to that of the signatures."""
        return math.sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0


class PatchJob(SignatureJob):
    """One patch: the sum of the signatures, each times its coefficient and the scale."""

    merges_on_devices = False

    @property
    def reference(self) -> Source:
        """The clean model."""
        return self.sources[0]

    @cached_property
    def plans(self) -> list[TensorPlan]:
        """The plans of the tensors that have a signature."""
        return self.signed

    @cached_property
    def output(self) -> ShardedOutput:
        """The layout of the file, with placeholders for the digests in the pedigree."""
        metadata = self._metadata(self._unfinished_pedigree)
        layout = patch_layout(self._shapes, self.file.bits)
        return ShardedOutput(self.place, layout, metadata, 0, self.protected)

    @property
    def summary(self) -> str:
        """The rounding error and the size of the patch, in words."""
        size, whole = self.place.stat().st_size, self.reference.num_bytes
        coded = sum(self._coded, Coded())
        return (
            f"{len(self.plans)} signatures in {self.file.bits} bits; rounding changes an entry by "
            f"at most {coded.largest:.3g}, all by {coded.relative:.2%} of their norm; "
            f"{size / 1e3:.1f} kB (1/{whole / size:.1f} of the model)"
        )

    def check(self) -> None:
        """Refuse a patch that cannot be written.

        Raises:
            InputError: with the reason.
        """
        super().check()
        if self.place.suffix != ".safetensors":
            raise InputError(f"{self.place}: a patch is a file; end its name in .safetensors")
        if not self.plans:
            raise InputError(f"{self.place}: nothing to write: no tensor has a signature")

    def run(self, on_bytes: Callable[[int], None]) -> None:
        """Write the patch, which appears under its name once it is complete.

        Raises:
            InputError: the file cannot be written, or a value is not finite.
        """
        states = self._states()
        digest_in_background(self.files, self.algorithm)
        retain_freed_memory()
        before, num_threads = torch.get_num_threads(), os.cpu_count() or 1
        torch.set_num_threads(1)
        try:
            with (
                # A file has nothing that a later run could resume: another key each time.
                self.output.opened(uuid4().hex) as shards,
                ThreadPoolExecutor(
                    num_threads, initializer=torch.set_num_threads, initargs=(1,)
                ) as pool,
            ):
                for shard in shards:
                    with self.output.writing(shard) as writer:
                        self._write_all(writer, pool, on_bytes)
                self._complete(self.output.work, states)
        finally:
            torch.set_num_threads(before)

    @cached_property
    def _coded(self) -> list[Coded]:
        """One entry per signature that has been written."""
        return []

    def _write_all(
        self, writer: ShardWriter, pool: ThreadPoolExecutor, on_bytes: Callable[[int], None]
    ) -> None:
        for plan in self.plans:
            self._coded.append(_write(plan, self.file.bits, writer, pool))
            on_bytes(plan.num_input_bytes)

    def _pedigree(self, digest_of: Callable[[Source], str]) -> dict[str, Any]:
        return super()._pedigree(digest_of) | {"output": "patch", "bits": self.file.bits}

    def _metadata(self, pedigree: Mapping[str, Any]) -> dict[str, str]:
        return pedigree_metadata(pedigree) | patch_metadata(self._shapes, self.file.bits)

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {plan.name: plan.inputs[0].stored.shape for plan in self.plans}


def _write(plan: TensorPlan, bits: int, writer: ShardWriter, pool: ThreadPoolExecutor) -> Coded:
    """Write the codes of one signature, run by run, after measuring the whole of it."""
    recipe, runs = plan.recipe, runs_of(plan, pool.map)
    shares = measure_shares(runs)
    sign = recipe.options.get("scale", 1.0) * (-1 if recipe.options.get("remove") else 1)
    factors = [sign * coefficient for coefficient in recipe.coefficients[2:]]

    def signature(run: Run) -> Tensor:
        return sum_of_signatures(run.tensors, run.base, factors, shares).double()

    ends = list(runs.map(lambda run: torch.stack(signature(run).aminmax())))
    low, high = torch.stack(ends).T.tolist() if ends else ([0.0], [0.0])
    grid = Grid.between(min(low), max(high), bits)
    if not math.isfinite(grid.step):
        check_finite(plan)
        raise InputError(f"tensor {plan.name!r}: the signature has a value that is not finite")

    def write(run: Run) -> Coded:
        exact = signature(run)
        codes = grid.codes(exact)
        # Runs begin at multiples of 8 entries, so at whole bytes.
        writer.write(plan.name, pack(codes, bits), run.start * bits // 8)
        error = grid.values(codes) - exact
        return Coded(
            float(error.abs().max()), float(error.square().sum()), float(exact.square().sum())
        )

    coded = sum(runs.map(write), Coded())
    writer.write(grid_name(plan.name), torch.tensor([grid.low, grid.step], dtype=torch.float64))
    return coded
