"""The diagnostics: analyses of ingredients and soups, on train and val only."""

from __future__ import annotations

from flows.stage import stage
from tasks.diagnosing import diagnose, write_findings
from tasks.fan_out import all_results, side_by_side
from tasks.outputs import record_stage
from tasks.session import Session


@stage("diagnose")
def diagnose_soups(session: Session) -> None:
    """Analyse the ingredients and soups: compatibility, contributions, diversity."""
    jobs = session.plan.diagnostic_jobs()
    findings = all_results(side_by_side(diagnose, jobs, "diagnose"))

    files = write_findings(dict(zip([job.name for job in jobs], findings, strict=True)))
    record_stage("diagnose", {}, files)
