"""The diagnostics: what ingredients and soups are like, seen on train and val alone."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Completed

from stockpot.experiment.state import is_done, require_before
from tasks.diagnosing import diagnose, write_findings
from tasks.fan_out import all_results, side_by_side
from tasks.manifests import record_stage
from tasks.run_settings import flow_session


@flow(name="diagnose")
def diagnose_soups(
    params: str | None = None, overrides: tuple[str, ...] = ()
) -> State[None] | None:
    """Look at ingredients and soups: do they belong together, what is each worth, and why."""
    with flow_session(params, overrides) as session:
        require_before(session.plan, "diagnose")
        if is_done(session.plan, "diagnose"):
            return Completed(name="Skipped", message="up to date")

        jobs = session.plan.diagnostic_jobs()
        findings = all_results(side_by_side(diagnose, jobs, "diagnose"))

        files = write_findings(dict(zip([job.name for job in jobs], findings, strict=True)))
        record_stage("diagnose", {}, files)
    return None
