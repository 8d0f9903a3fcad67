"""The report: one page that says what was found, and how far it can be trusted."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Completed

from stockpot.experiment.state import is_done, require_before
from tasks.manifests import record_stage
from tasks.reporting import publish_table, write_report
from tasks.run_settings import flow_session


@flow(name="report")
def report_results(
    params: str | None = None, overrides: tuple[str, ...] = ()
) -> State[None] | None:
    """Write the report, and publish the table in Prefect and MLflow."""
    with flow_session(params, overrides) as session:
        require_before(session.plan, "report")
        if is_done(session.plan, "report"):
            return Completed(name="Skipped", message="up to date")

        files = write_report()

        publish_table(files[0])
        record_stage("report", {}, files)
    return None
