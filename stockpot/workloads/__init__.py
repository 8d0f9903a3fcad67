"""What models are trained and judged on: one file a workload, behind one protocol."""

from stockpot.workloads.building import build_workload, shift_names

__all__ = ["build_workload", "shift_names"]
