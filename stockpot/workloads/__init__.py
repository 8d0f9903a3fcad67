"""Workloads: data, model, loss and metrics behind one protocol, one file per workload."""

from stockpot.workloads.building import build_workload, shift_names

__all__ = ["build_workload", "shift_names"]
