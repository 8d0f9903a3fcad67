"""The resources that a merge on disk needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence

from stockpot.disk_merging.planning.plan import TensorPlan
from stockpot.disk_merging.streaming.merged_source import MergedSource
from stockpot.storage.weights.output import ShardedOutput


def forecast_of(
    plans: Sequence[TensorPlan], output: ShardedOutput, nested: Iterable[MergedSource] = ()
) -> dict[str, int]:
    """Return disk and memory in bytes, from headers alone, by what they are.

    Args:
        plans: one per tensor.
        output: the files that are written.
        nested: the merges within the merge.
    """
    held = max(map(_bytes_held, plans), default=0) + sum(inner.bytes_kept for inner in nested)
    # The folder of several outputs may not exist yet.
    folder = next(path for path in output.place.absolute().parents if path.exists())
    return {
        "to read": sum(plan.num_input_bytes for plan in plans),
        "to write": output.num_bytes,
        "of memory at most": held,
        "free on the disk": shutil.disk_usage(folder).free,
    }


def _bytes_held(plan: TensorPlan) -> int:
    of_nested = sum(origin.bytes_to_compute for origin in plan.origins)
    return 4 * (len(plan.inputs) + 2) * plan.num_elements + of_nested
