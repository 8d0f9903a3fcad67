"""The report, the plots' numbers, and the table where Prefect's and MLflow's users look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from stockpot.promotion import best_soup
from stockpot.report_files import load_results, table_columns, write_plot_files, write_report_file
from stockpot.reporting.figures import score_plots
from stockpot.tracking import log_results
from tasks.session import current_session


@task(name="write-plots", cache_policy=NO_CACHE)
def write_plots(evaluation: dict[str, Any]) -> list[Path]:
    """Write the CSV files behind the plots, and the metrics of the main models."""
    return write_plot_files(current_session().root, evaluation)


@task(name="write-report", cache_policy=NO_CACHE)
def write_report() -> Path:
    """Write results/report.html and attach it to the MLflow run, with all that is in it."""
    session = current_session()
    path = write_report_file(session.plan)
    session.tracker.log_text("report.html", path.read_text(encoding="utf-8"))
    drawn = score_plots(load_results(session.root))
    figures = {plot.title: plot.svg for plot in drawn if plot.svg}
    results = session.plan.project.results
    log_results(session.tracker, results, best_soup(session.plan).name, figures)
    return path


@task(name="publish-table", cache_policy=NO_CACHE)
def publish_table(report: Path) -> None:
    """Show the table of results in Prefect's UI and on the MLflow run."""
    session = current_session()
    columns = table_columns(load_results(session.root).evaluation)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    create_table_artifact(rows, key="results", description="Models, judged; points are percent")
    create_link_artifact(report.as_uri(), "report.html", key="report", description="The report")
    session.tracker.log_table("results.json", columns)
