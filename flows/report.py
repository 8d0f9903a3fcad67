"""The report: one page with the results and their uncertainty."""

from __future__ import annotations

from flows.stage import stage
from tasks.outputs import record_stage
from tasks.reporting import publish_table, write_report
from tasks.session import Session


@stage("report")
def report_results(_session: Session) -> None:
    """Write the report, and publish the table in Prefect and MLflow."""
    files = write_report()

    publish_table(files[0])
    record_stage("report", {}, files)
