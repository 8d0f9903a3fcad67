"""What a command ends with: the table, where the report is, and what to run next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from stockpot.errors import InputError
from stockpot.manifests import STAGES, models_of, read_manifest
from stockpot.planning import Plan
from stockpot.reporting import headline, render_terminal, results_table

_NEXT = {
    "base": "stockpot sweep",
    "sweep": "stockpot soups",
    "soups": "stockpot tune",
    "tune": "stockpot evaluate",
    "evaluate": "stockpot report",
}


def show_results(plan: Plan, stages: Sequence[str], console: Console, *, worked: bool) -> None:
    """Print what the stages came to and the next commands."""
    if not worked:
        console.print("Nothing to do: everything is up to date.")
    if len(stages) == 1 and stages[0] in _NEXT:
        for model in models_of(read_manifest(plan.project.root, stages[0])):
            console.print(f"  {model.name}  {_scores(model.scores)}", highlight=False)
        console.print(f"\nNext: [bold]{_NEXT[stages[0]]}[/bold]")
        return
    evaluation = read_manifest(plan.project.root, "evaluate")
    console.print()
    console.print(render_terminal(results_table(evaluation), evaluation))
    console.print(f"\n{headline(evaluation)}")
    for failure in read_manifest(plan.project.root, "sweep")["failed"]:
        console.print(f"[yellow]{failure['name']} failed: {failure['reason']}")
    console.print("\nReport: [bold]results/report.html[/bold]")
    console.print(
        "Next:   [bold]stockpot ui[/bold]                      compare the soups in MLflow\n"
        "        [bold]stockpot run --set sweep.size=20[/bold]  more ingredients, old ones kept\n"
        "        edit params.yaml and [bold]stockpot run[/bold] again, or [bold]dvc repro[/bold]",
        highlight=False,
    )


def show_status(plan: Plan, console: Console) -> None:
    """Print each stage's state and the command that goes on."""
    table = Table("stage", "state", "models", box=None)
    stale = False
    for stage in STAGES:
        stale = stale or not plan.is_done(stage)
        table.add_row(stage, "to do" if stale else "done", _counted(plan, stage))
    console.print(table)
    console.print("\nNext: [bold]stockpot run[/bold]" if stale else "\nEverything is up to date.")


def _counted(plan: Plan, stage: str) -> str:
    try:
        manifest = read_manifest(plan.project.root, stage)
    except InputError:
        return ""
    made, failed = len(models_of(manifest)), len(manifest.get("failed", []))
    return (f"{made}" if made else "") + (f", {failed} failed" if failed else "")


def _scores(scores: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
