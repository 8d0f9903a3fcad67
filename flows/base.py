"""The base: the model that every ingredient starts from."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Completed

from stockpot.experiment.state import is_done
from tasks.data_check import check_data_first
from tasks.fan_out import all_results, side_by_side
from tasks.importing import check_imports, import_checkpoints
from tasks.manifests import record_stage
from tasks.run_settings import flow_session
from tasks.training import train_model


@flow(name="base")
def pretrain_base(params: str | None = None, overrides: tuple[str, ...] = ()) -> State[None] | None:
    """Import the base, or pretrain it on the pretraining part of the data.

    What the sweep is to import is looked at before that: headers alone, in seconds.
    """
    with flow_session(params, overrides) as session:
        if is_done(session.plan, "base"):
            return Completed(name="Skipped", message="up to date")

        check_data_first()
        check_imports("sweep")
        _, outcomes = import_checkpoints("base")
        if not outcomes:
            outcomes = side_by_side(train_model, [session.plan.base_job()], "base")
        [base] = all_results(outcomes)

        record_stage("base", {"base": base.to_json()})
    return None
