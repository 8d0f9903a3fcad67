"""Whether the workload keeps what stockpot relies on: the checks of `stockpot check`."""

from pathlib import Path

from stockpot.experiment.opening import make_plan
from stockpot.workloads.checks import check_workload

PARAMS = Path(__file__).parent.parent / "params.yaml"


def test_the_workload_keeps_what_stockpot_relies_on():
    """Every check of the workload that params.yaml names is passed or has nothing to look at."""
    workload = make_plan(str(PARAMS), []).workload

    failed = [checked for checked in check_workload(workload) if checked.outcome == "failed"]

    assert failed == []
