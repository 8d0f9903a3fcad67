"""Output at the end of a command: table, verdict, path of the report, next commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from flows.send_command import waiting_notes
from stockpot.errors import InputError
from stockpot.experiment.jobs.diagnosing import read_finding_files
from stockpot.experiment.plan import Plan
from stockpot.experiment.report_files import load_results
from stockpot.experiment.stages import STAGES
from stockpot.experiment.state import is_done
from stockpot.reporting.results import Results
from stockpot.reporting.tables.results_table import results_table
from stockpot.reporting.tables.terminal import render_terminal
from stockpot.reporting.words.alerts import alerts, data_warnings
from stockpot.reporting.words.verdict import headline
from stockpot.storage.manifests import models_of, read_manifest

_NEXT = dict(pairwise(STAGES))


def show_results(plan: Plan, stages: Sequence[str], console: Console, *, worked: bool) -> None:
    """Print the results of the stages and the next commands."""
    if not worked:
        console.print("Nothing to do: everything is up to date.")
    if len(stages) == 1 and stages[0] in _NEXT:
        for model in models_of(read_manifest(plan.project.root, stages[0])):
            console.print(f"  {model.name}  {_scores(model.scores)}")
        findings = read_finding_files(plan.project.root) if stages[0] == "diagnose" else {}
        for name, finding in findings.items():
            text = f"  {name.replace('_', ' ')}: {finding['sentence']}"
            console.print(text, markup=False)
        console.print(f"\nNext: [bold]stockpot {_NEXT[stages[0]]}[/bold]", markup=True)
        return
    results = load_results(plan.project.root)
    show_findings(results, console)
    console.print("\nReport: [bold]results/report.html[/bold]", markup=True)
    console.print(
        "Next:   [bold]stockpot ui[/bold]                      compare the soups in MLflow\n"
        "        [bold]stockpot run --set sweep.size=20[/bold]  add ingredients to the sweep\n"
        "        edit params.yaml and [bold]stockpot run[/bold] again, or [bold]dvc repro[/bold]",
        markup=True,
    )


def show_findings(results: Results, console: Console) -> None:
    """Print alerts, the table, the verdict, and whether to train more ingredients."""
    console.print()
    for warning in [*(alert.sentence for alert in alerts(results)), *data_warnings(results)]:
        console.print(f"! {warning}", style="yellow", markup=False)
    console.print(render_terminal(results_table(results.evaluation), results.evaluation))
    console.print(f"\n{headline(results.evaluation)}", markup=False)
    if soup_size := results.diagnostics.get("soup_size"):
        console.print(soup_size["sentence"], markup=False)
    for failure in results.sweep["failed"]:
        text = f"{failure['name']} failed: {failure['reason']}"
        console.print(text, style="yellow", markup=False)


def show_status(plan: Plan, console: Console) -> None:
    """Print the state of each stage, records that wait, and the command to continue."""
    table = Table("stage", "state", "models", box=None)
    stale = False
    for stage in STAGES:
        stale = stale or not is_done(plan, stage)
        table.add_row(stage, "to do" if stale else "done", _counted(plan, stage))
    console.print(table)
    for imports in plan.imports.values():
        for line in imports.listed():
            console.print(f"  {line}", markup=False)
    for note in waiting_notes(plan):
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    following = "Next: [bold]stockpot run[/bold]" if stale else "Everything is up to date."
    console.print(f"\n{following}", markup=True)


def _counted(plan: Plan, stage: str) -> str:
    try:
        manifest = read_manifest(plan.project.root, stage)
    except InputError:
        return ""
    made, failed = len(models_of(manifest)), len(manifest.get("failed", []))
    return (f"{made}" if made else "") + (f", {failed} failed" if failed else "")


def _scores(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
