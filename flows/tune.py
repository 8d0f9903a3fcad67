"""The tuned soups: coefficients searched on val."""

from __future__ import annotations

from flows.stage import stage
from tasks.fan_out import all_results, side_by_side
from tasks.models import tune_soup
from tasks.outputs import record_stage
from tasks.session import Session


@stage("tune")
def tune_coefficients(session: Session) -> None:
    """Search the coefficients of one soup per study, on val and the val shifts only."""
    tuned = all_results(side_by_side(tune_soup, session.plan.tuning_jobs(), "tune"))

    record_stage("tune", {"tuned": [soup.to_json() for soup in tuned]})
