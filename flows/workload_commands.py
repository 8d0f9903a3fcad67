"""The commands for workloads of one's own: no flow, no server."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from stockpot.errors import InputError
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.workloads.checks import CheckResult

_out = Console()
_COLOURS = {"ok": "green", "failed": "red", "skipped": "yellow"}
_WIDTH = 28  # of the longest name of a check


def new(
    folder: Annotated[str, typer.Argument(help="Of the project; it is made if there is none.")],
) -> None:
    """Write a small project of your own to start from; it runs as it is.

    A workload in PyTorch, params.yaml, the pipeline for DVC, deployments for Prefect and a test.
    Nothing that is there already is overwritten.

    stockpot new my_project && cd my_project && stockpot run
    """
    from flows.new_project import write_project

    for path in write_project(Path(folder)):
        _out.print(f"  {path}", highlight=False)
    _out.print(f"Next: cd {folder} && stockpot check-workload && stockpot run", highlight=False)


def check_workload(
    name: Annotated[
        str | None,
        typer.Argument(help="module:Class or a built-in workload; else that of params.yaml."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="An option of the workload's own."),
    ] = None,
    val_shifts: Annotated[
        list[str] | None, typer.Option("--val-shift", help="A shift of val; once or more.")
    ] = None,
    test_shifts: Annotated[
        list[str] | None, typer.Option("--test-shift", help="A shift of test; once or more.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the splits and the shifts.")] = 0,
    params: Annotated[
        str | None, typer.Option("--params", "-p", help="The experiment; by default params.yaml.")
    ] = None,
) -> None:
    """Check that a workload keeps what stockpot relies on, and say what to change.

    Without a name: the workload of params.yaml, with its options and shifts. The exit code is 1
    if a check fails.

    stockpot check-workload

    stockpot check-workload workload:Waves --val-shift slow --test-shift noise
    """
    if name is None:
        if options or val_shifts or test_shifts:
            raise InputError("check-workload: options and shifts must go with a name, got none")
        spec = _planned(params)
    else:
        spec = _named(name, seed, options or [])
        spec = replace(spec, val_shifts=(*(val_shifts or ()),), test_shifts=(*(test_shifts or ()),))
    if _show_checks(spec):
        raise typer.Exit(1)


def _planned(params: str | None) -> WorkloadSpec:
    from stockpot.experiment.opening import make_plan

    return make_plan(params, []).workload


def _named(name: str, seed: int, options: list[str]) -> WorkloadSpec:
    """Return a workload that needs no experiment; its module may be in the working directory."""
    import yaml

    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    values: dict[str, Any] = {}
    for option in options:
        field, equals, text = option.partition("=")
        if not equals or not field:
            raise InputError(f"--option: must look like NAME=VALUE, got {option!r}")
        values[field] = yaml.safe_load(text)
    return WorkloadSpec(name, seed, options=tuple(sorted(values.items())))


def _show_checks(spec: WorkloadSpec) -> int:
    """Print a line a check, as it ends; return how many failed."""
    from stockpot.workloads.checks import check_workload as checks_of

    counts = dict.fromkeys(_COLOURS, 0)
    _out.print(f"workload {spec.name}", highlight=False)
    for checked in checks_of(spec):
        counts[checked.outcome] += 1
        _show(checked)
    ends = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    _out.print(", ".join(ends), highlight=False)
    return counts["failed"]


def _show(checked: CheckResult) -> None:
    line = Text.assemble(
        (f"{checked.outcome:8}", _COLOURS[checked.outcome]), f"{checked.name:{_WIDTH}} "
    )
    if checked.outcome == "failed":
        _out.print(line)
        _out.print(Padding(Text(checked.message), (0, 0, 0, 8)))
    else:
        _out.print(line.append(checked.message or checked.claim, "dim"), soft_wrap=True)
