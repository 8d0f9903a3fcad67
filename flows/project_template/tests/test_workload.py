"""The workload passes the checks of `stockpot check`."""

from pathlib import Path

from stockpot.experiment.opening import make_plan
from stockpot.workloads.checks import check_workload

PARAMS = Path(__file__).parent.parent / "params.yaml"


def test_the_workload_fails_no_check():
    """No check fails for the workload of params.yaml."""
    workload = make_plan(str(PARAMS), []).workload

    failed = [result for result in check_workload(workload) if result.outcome == "failed"]

    assert failed == []
