"""The commands about workloads of one's own: no flow, no server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from stockpot.errors import InputError, StageFailed

if TYPE_CHECKING:
    from stockpot.workloads.spec import WorkloadSpec

_out = Console()


def check_workload(
    name: Annotated[
        str | None,
        typer.Argument(help="A built-in workload or module:Class; by default that of params.yaml."),
    ] = None,
    val_shifts: Annotated[
        list[str] | None, typer.Option("--val-shift", help="A shift of val; once or more.")
    ] = None,
    test_shifts: Annotated[
        list[str] | None, typer.Option("--test-shift", help="A shift of test; once or more.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="An option of the workload's own."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the splits and the shifts.")] = 0,
    params: Annotated[
        str | None, typer.Option("--params", "-p", help="The experiment; by default params.yaml.")
    ] = None,
) -> None:
    """Check that a workload keeps what the protocol promises, and say what to change.

    It exits with 1 if a check fails.

    stockpot check-workload my_workload:MyWorkload --val-shift dark --test-shift noise

    stockpot check-workload -p params.yaml
    """
    spec = _planned(params) if name is None else _named(name, options or [], seed)
    if name is not None:
        spec = _with_shifts(spec, val_shifts or [], test_shifts or [])
    elif val_shifts or test_shifts or options:
        raise InputError("check-workload: shifts and options go with NAME; else params.yaml's hold")
    failed = _show(spec)
    if failed:
        raise StageFailed(
            f"workload {spec.name!r}: {failed} of the checks failed; change what they name, "
            "then check again"
        )


def _planned(params: str | None) -> WorkloadSpec:
    """Return the workload of an experiment."""
    from flows.launch import make_plan

    return make_plan(params, []).workload


def _named(name: str, options: list[str], seed: int) -> WorkloadSpec:
    """Return a workload that needs no experiment; its module may be in the working directory."""
    import yaml

    from stockpot.workloads.spec import WorkloadSpec

    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    values: dict[str, Any] = {}
    for option in options:
        field, equals, text = option.partition("=")
        if not equals or not field:
            raise InputError(f"--option: must look like NAME=VALUE, got {option!r}")
        values[field] = yaml.safe_load(text)
    return WorkloadSpec(name, seed, options=tuple(sorted(values.items())))


def _with_shifts(spec: WorkloadSpec, val: list[str], test: list[str]) -> WorkloadSpec:
    """Name the shifts; of a built-in workload, where none is named, all that it knows."""
    from dataclasses import replace

    from stockpot.workloads import shift_names

    if not val and not test:
        val, test = list(shift_names(spec.name) or ())[:1], list(shift_names(spec.name) or ())[1:]
    return replace(spec, val_shifts=tuple(val), test_shifts=tuple(test))


def _show(spec: WorkloadSpec) -> int:
    """Print each check as it ends; return how many failed."""
    from stockpot.workload_checks import check_workload as checks_of

    failed = 0
    for checked in checks_of(spec):
        mark = "[green]ok    [/green]" if checked.problem is None else "[red]failed[/red]"
        _out.print(f"{mark}  {checked.name:28}  [dim]{checked.claim}[/dim]", highlight=False)
        if checked.problem is not None:
            failed += 1
            _out.print(f"        {checked.problem}", highlight=False, markup=False)
    if not spec.val_shifts and not spec.test_shifts:
        _out.print("No shift was checked, for none is named (--val-shift, --test-shift).")
    return failed
