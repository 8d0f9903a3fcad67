"""The tuned soups: coefficients searched on val."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Completed

from stockpot.experiment.state import is_done, require_before
from tasks.fan_out import all_results, side_by_side
from tasks.manifests import record_stage
from tasks.merging import tune_soup
from tasks.run_settings import flow_session


@flow(name="tune")
def tune_coefficients(
    params: str | None = None, overrides: tuple[str, ...] = ()
) -> State[None] | None:
    """Search the coefficients of one soup a study, on val and the val shifts alone."""
    with flow_session(params, overrides) as session:
        require_before(session.plan, "tune")
        if is_done(session.plan, "tune"):
            return Completed(name="Skipped", message="up to date")

        tuned = all_results(side_by_side(tune_soup, session.plan.tuning_jobs(), "tune"))

        record_stage("tune", {"tuned": [soup.to_json() for soup in tuned]})
    return None
