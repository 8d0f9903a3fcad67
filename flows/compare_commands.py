"""The command that compares finished runs; it needs no flow and no Prefect server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import Params
from flows.send_command import send_and_report
from flows.terminal import OUT

if TYPE_CHECKING:
    from stockpot.experiment.comparison import FinishedRun
    from stockpot.experiment.plan import Plan
    from stockpot.reporting.compare.runs import Runs


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="A project folder, or the first characters of the id of an MLflow parent run.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Path of the page; by default results/compare.html of this project."),
    ] = None,
    params: Params = None,
) -> None:
    """Compare finished experiments: which best soup is better, and which settings differ.

    The first run is the reference. The tests are paired if the runs have the same test examples
    and their predictions are cached. The result is written as an HTML page.

    stockpot compare . ../other-project

    stockpot compare 1755e1e3 571a7ec2 --out sweep.html
    """
    from stockpot.experiment.comparison import compare_runs
    from stockpot.experiment.opening import make_plan
    from stockpot.reporting.compare.compare_page import render_comparison
    from stockpot.storage.atomic_files import write_text

    plan = make_plan(params, [])
    compared = compare_runs([_finished(plan, run) for run in runs])
    path = out or plan.project.results / "compare.html"
    write_text(path, render_comparison(compared))
    _show(compared)
    OUT.print(f"\nPage: {path}", soft_wrap=True)
    send_and_report(plan)


def _finished(plan: Plan, run: str) -> FinishedRun:
    """Read a run from its folder, or from MLflow if there is no such folder."""
    from stockpot.experiment.comparison import run_of_folder, run_of_record
    from stockpot.experiment.opening import open_tracker
    from stockpot.tracking.addresses import is_server, run_url
    from stockpot.tracking.recorded import read_pipeline_run

    if Path(run).is_dir():
        return run_of_folder(Path(run))
    recorded = read_pipeline_run(open_tracker(plan).store, run)
    uri = plan.tracking_uri
    link = run_url(uri, recorded.experiment_id, recorded.run_id) if is_server(uri) else None
    return run_of_record(recorded, plan, link)


def _show(compared: Runs) -> None:
    from stockpot.reporting.compare.run_grids import terminal_table
    from stockpot.reporting.compare.run_verdicts import run_headline, run_verdicts

    OUT.print()
    OUT.print(terminal_table(compared))
    OUT.print(f"\n{run_headline(compared)}")
    for verdict in run_verdicts(compared):
        if verdict.outcome is None:
            OUT.print(f"  {verdict.sentence}")
