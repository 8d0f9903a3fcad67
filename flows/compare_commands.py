"""The command that compares finished runs; it needs no flow and no Prefect server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from stockpot.experiment.comparison import FinishedRun
    from stockpot.experiment.plan import Plan
    from stockpot.reporting.compare.runs import Runs

_out = Console()


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
        typer.Option(
            "--out", help="Path of the page; by default results/compare.html of this project."
        ),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option("--params", "-p", help="Path of the experiment file; by default params.yaml."),
    ] = None,
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
    _out.print(f"\nPage: [bold]{path}[/bold]", highlight=False, soft_wrap=True)


def _finished(plan: Plan, run: str) -> FinishedRun:
    """Read a run from its folder, or from MLflow if there is no such folder."""
    from stockpot.experiment.comparison import run_of_folder, run_of_record
    from stockpot.experiment.opening import import_from, open_tracker
    from stockpot.storage.project import Project
    from stockpot.tracking.addresses import is_server, run_url
    from stockpot.tracking.recorded import read_pipeline_run

    folder = Path(run)
    if folder.is_dir():
        import_from(Project(folder.resolve(), folder.resolve() / "params.yaml"))
        return run_of_folder(folder)
    recorded = read_pipeline_run(open_tracker(plan).store, run)
    uri = plan.tracking_uri
    link = run_url(uri, recorded.experiment_id, recorded.run_id) if is_server(uri) else None
    return run_of_record(recorded, plan, link)


def _show(compared: Runs) -> None:
    from stockpot.reporting.compare.run_grids import terminal_table
    from stockpot.reporting.compare.run_verdicts import run_headline, run_verdicts

    _out.print()
    _out.print(terminal_table(compared))
    _out.print(f"\n{run_headline(compared)}", highlight=False, markup=False)
    for verdict in run_verdicts(compared):
        if verdict.outcome is None:
            _out.print(f"  {verdict.sentence}", highlight=False, markup=False)
