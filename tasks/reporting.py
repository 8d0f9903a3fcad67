"""Write the report and the data of its plots, and publish the table in Prefect and MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stockpot.experiment.report_files import (
    load_results,
    table_columns,
    write_plot_files,
    write_report_files,
)
from stockpot.reporting.figures import draw_figures
from stockpot.reporting.results import unit_of
from stockpot.tracking.manifests import log_results
from tasks.artifacts import publish_report, publish_results
from tasks.session import current_session
from tasks.task_kinds import local_task


@local_task("write-plots")
def write_plots(evaluation: dict[str, Any]) -> list[Path]:
    """Write the CSV files behind the plots, and the metrics of the main models."""
    return write_plot_files(current_session().root, evaluation)


@local_task("write-report")
def write_report() -> list[Path]:
    """Write the report and the model card, and log them with their contents to MLflow."""
    session = current_session()
    results = load_results(session.root)
    keys = {model["name"]: model["key"] for model in results.evaluation["models"]}
    runs = {name: run for name, key in keys.items() if (run := session.tracker.run_id(key))}
    figures = draw_figures(results)
    files = write_report_files(session.plan, figures, runs)
    for path in files:
        session.tracker.log_text(path.name, path.read_text(encoding="utf-8"))
    folder = session.plan.project.results
    log_results(session.tracker, folder, results.evaluation["best_soup"], figures.svgs)
    return files


@local_task("publish-table")
def publish_table(report: Path) -> None:
    """Show the table of results in Prefect's UI and on the MLflow run."""
    session = current_session()
    evaluation = load_results(session.root).evaluation
    columns = table_columns(evaluation)
    description = f"Models, judged: {unit_of(evaluation).scores}"
    publish_results(session, columns, description)
    publish_report(session, report)
    session.tracker.log_table("results.json", columns)
