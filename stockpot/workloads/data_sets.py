"""The sets of examples of a workload, and what tells one from another."""

from __future__ import annotations

from stockpot.storage.keys import content_key
from stockpot.workloads.spec import WorkloadSpec


def set_digest(workload: WorkloadSpec, name: str) -> str:
    """Hash what makes a set of examples what it is, to 20 hex digits.

    Args:
        workload: whose.
        name: pretrain, train, val, test, `val_shift/<name>` or `test_shift/<name>`.
    """
    split, _, shift = name.partition("_shift/")
    file = workload.shift_files(split).get(shift)
    return content_key(
        **({"file": file} if file else {}),
        workload=workload.name,
        options=dict(workload.options),
        data=workload.build().data_digest(),
        seed=workload.seed,
        set=name,
    )


def judged_set_names(workload: WorkloadSpec) -> tuple[str, ...]:
    """Name all sets that models are trained, chosen and judged on."""
    shifts = {"val_shift": workload.val_shifts, "test_shift": workload.test_shifts}
    moved = [f"{prefix}/{name}" for prefix, names in shifts.items() for name in names]
    return ("pretrain", "train", "val", "test", *moved)
