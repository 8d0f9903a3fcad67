"""Digests of the sets of examples of a workload."""

from __future__ import annotations

from stockpot.storage.keys import content_key
from stockpot.workloads.spec import WorkloadSpec


def set_digest(workload: WorkloadSpec, name: str) -> str:
    """Content digest of a set of examples: 20 hex digits, equal for equal examples.

    Args:
        workload: whose.
        name: pretrain, train, val, test, `val_shift/<name>` or `test_shift/<name>`.
    """
    return content_key(**workload.set_key_parts(name))


def judged_set_names(workload: WorkloadSpec) -> tuple[str, ...]:
    """Name all sets that models are trained, chosen and judged on."""
    shifts = {"val_shift": workload.val_shifts, "test_shift": workload.test_shifts}
    moved = [f"{prefix}/{name}" for prefix, names in shifts.items() for name in names]
    return ("pretrain", "train", "val", "test", *moved)
