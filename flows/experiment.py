"""The whole experiment, from base to report."""

from __future__ import annotations

from prefect import flow

from flows.promote import promote_best_soup
from flows.stage import flow_of
from stockpot.experiment.stages import STAGES
from tasks.outputs import adopt
from tasks.run_settings import flow_session, run_flow
from tasks.session import Session


@flow(name="experiment")
def run_experiment(params: str | None = None, overrides: tuple[str, ...] = ()) -> None:
    """Run every stage that is not up to date, and record its outputs in DVC.

    Args:
        params: the params file; by default params.yaml of the project.
        overrides: `field.subfield=value` each; they override the file.
    """
    with flow_session(params, overrides) as session:
        run_all_stages(session, params, overrides)


def run_all_stages(session: Session, params: str | None, overrides: tuple[str, ...]) -> None:
    """Run the flow of each stage in the open session, and the promotion if it is enabled."""
    for stage in STAGES:
        run_flow(flow_of(stage), params, overrides)
        adopt(stage)

    if session.plan.experiment.promote.enabled:
        run_flow(promote_best_soup, params, overrides)
