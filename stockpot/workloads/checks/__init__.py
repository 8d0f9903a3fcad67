"""Contract checks of workloads, for the user's own and the built-in ones."""

from stockpot.workloads.checks.suite import CHECKS, check_workload

__all__ = ["CHECKS", "check_workload"]
