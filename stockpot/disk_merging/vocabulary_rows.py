"""Outputs in which the extra rows of a padded vocabulary are copied, not merged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from stockpot.disk_merging.plan import TensorPlan
from stockpot.errors import InputError
from stockpot.storage.weights.output import Shard, ShardedOutput, ShardWriter


class OutputWithKeptRows(ShardedOutput):
    """The files of a merge, with rows that are copied from one model."""

    def __init__(
        self,
        place: Path,
        plans: Sequence[TensorPlan],
        metadata: Mapping[str, str],
        max_shard_bytes: int,
    ) -> None:
        """Lay the files out; nothing is written yet.

        Args:
            place: the path of the model.
            plans: one per tensor, with the rows to copy.
            metadata: for the headers.
            max_shard_bytes: a shard is closed before it would grow beyond this.
        """
        types = {plan.name: plan.type for plan in plans}
        super().__init__(place, types, metadata, max_shard_bytes)
        self._plans = {plan.name: plan for plan in plans}

    @contextmanager
    def writing(self, shard: Shard) -> Iterator[ShardWriter]:
        """Yield the writer of a shard, which already contains the copied rows."""
        with super().writing(shard) as writer:
            for name in shard.tensors:
                _write_kept(self._plans[name], writer)
            yield writer


def _write_kept(plan: TensorPlan, writer: ShardWriter) -> None:
    if plan.kept is None:
        return
    dtype, shape = plan.type
    first, last = plan.num_elements, math.prod(shape)
    rows = plan.kept.source.read_run(plan.kept.name, first, last)
    rounded = rows.to(dtype)
    if not torch.isfinite(rounded.float()).all():
        raise InputError(
            f"{plan.kept.stored.file}: tensor {plan.kept.name!r}: has a value that is not finite "
            f"in {dtype}"
        )
    writer.write(plan.name, rounded, first)
