"""The resources that a merge on disk needs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from stockpot.disk_merging.plan import TensorPlan
from stockpot.storage.weights.output import ShardedOutput


def forecast_of(plans: Sequence[TensorPlan], output: ShardedOutput) -> dict[str, float]:
    """Return disk and memory in GB, from headers alone, by what they are."""
    held = max(((len(plan.inputs) + 2) * plan.num_elements for plan in plans), default=0)
    return {
        "GB to read": sum(plan.num_input_bytes for plan in plans) / 1e9,
        "GB to write": output.num_bytes / 1e9,
        "GB of memory at most": 4 * held / 1e9,
        "GB free on the disk": shutil.disk_usage(output.place.absolute().parent).free / 1e9,
    }
