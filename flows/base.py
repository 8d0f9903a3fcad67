"""The base: the model that every ingredient starts from."""

from __future__ import annotations

from flows.stage import stage
from tasks.checks import check_data_first
from tasks.fan_out import all_results, side_by_side
from tasks.importing import check_imports, import_checkpoints
from tasks.outputs import record_stage
from tasks.session import Session
from tasks.training import train_model


@stage("base")
def pretrain_base(session: Session) -> None:
    """Import the base, or pretrain it on the pretraining part of the data.

    The headers of checkpoints that the sweep imports are checked first, which takes seconds.
    """
    check_data_first()
    check_imports("sweep")
    _, outcomes = import_checkpoints("base")
    if not outcomes:
        outcomes = side_by_side(train_model, [session.plan.base_job()], "base")
    [base] = all_results(outcomes)

    record_stage("base", {"base": base.to_json()})
