"""The base: the model that every ingredient starts from."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Completed

from tasks.data_check import check_data_first
from tasks.fan_out import all_results, side_by_side
from tasks.manifests import record_stage
from tasks.run_settings import flow_session
from tasks.training import train_model


@flow(name="base")
def pretrain_base(params: str | None = None, overrides: tuple[str, ...] = ()) -> State[None] | None:
    """Pretrain the base on the pretraining part of the data."""
    with flow_session(params, overrides) as session:
        if session.plan.is_done("base"):
            return Completed(name="Skipped", message="up to date")

        check_data_first()
        [base] = all_results(side_by_side(train_model, [session.plan.base_job()], "base"))

        record_stage("base", {"base": base.to_json()})
    return None
