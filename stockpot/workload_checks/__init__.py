"""Whether a workload keeps what the protocol promises: the checks that users run on their own."""

from stockpot.workload_checks.kit import CHECKS, Checked, check_workload

__all__ = ["CHECKS", "Checked", "check_workload"]
