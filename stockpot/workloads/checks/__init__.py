"""Whether a workload keeps what the protocol promises: the checks that users run on their own."""

from stockpot.workloads.checks.suite import CHECKS, CheckResult, check_workload

__all__ = ["CHECKS", "CheckResult", "check_workload"]
