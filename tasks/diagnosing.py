"""Run diagnostics of ingredients and soups, several at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stockpot.diagnostics.finding import Finding
from stockpot.experiment.jobs.diagnosing import DiagnosticJob, diagnose_models, write_finding_files
from tasks.session import current_session
from tasks.task_kinds import local_task, worker_task


@worker_task("diagnose", "diagnose-{job.name}")
def diagnose(job: DiagnosticJob) -> Finding:
    """Run one diagnostic, unless its finding is cached."""
    return current_session().run_in_steps(job.name, diagnose_models, job)


@local_task("write-findings")
def write_findings(findings: Mapping[str, Finding]) -> list[Path]:
    """Write results/diagnostics/*.json, and log the diagnostics' metrics to MLflow."""
    session = current_session()
    session.tracker.log_parent_metrics(
        {
            f"diagnostic/{name}/{metric}": value
            for name, finding in findings.items()
            for metric, value in finding.metrics.items()
        }
    )
    return write_finding_files(session.root, findings)
