"""The sets that are reported only: test and its shifts."""

from __future__ import annotations

from stockpot.workloads.spec import WorkloadSpec


def test_sets(workload: WorkloadSpec) -> tuple[str, ...]:
    """Name the test split and the shifts of test, as predictions are cached by."""
    return ("test", *workload.shift_sets("test"))


test_sets.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
