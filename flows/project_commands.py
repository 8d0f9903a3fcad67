"""The commands `new` and `check`: a project and its custom code; no flow, no server."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.padding import Padding
from rich.text import Text

from flows.options import Params
from flows.terminal import OUT, show_next
from stockpot.errors import InputError
from stockpot.experiment.plugin_checks import Kind, check_plugin, kind_of, parsed_options

if TYPE_CHECKING:
    from stockpot.plugins import CheckResult
    from stockpot.workloads.spec import WorkloadSpec

_COLOURS = {"ok": "green", "failed": "red", "skipped": "yellow"}
_WIDTH = 32  # of the longest name of a check


def new(
    folder: Annotated[str, typer.Argument(help="Of the project; created if it does not exist.")],
) -> None:
    """Write a small project to start from; it runs without changes.

    A workload in PyTorch, params.yaml, the pipeline for DVC, deployments for Prefect and a test.
    Existing files are not overwritten.

    stockpot new my_project && cd my_project && stockpot run
    """
    from flows.new_project import write_project

    for path in write_project(Path(folder)):
        OUT.print(f"  {path}")
    show_next(f"cd {shlex.quote(folder)} && stockpot check && stockpot run")


def check(  # noqa: PLR0913, PLR0917 (one per option of the command)
    name: Annotated[
        str | None,
        typer.Argument(help="A built-in name or module:name; by default params.yaml's workload."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help=f"One of {', '.join(get_args(Kind))}, if it is not obvious."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="NAME=VALUE", help="An option of it; task=... for a metric."
        ),
    ] = None,
    val_shifts: Annotated[
        list[str] | None, typer.Option("--val-shift", help="A shift of val; once or more.")
    ] = None,
    test_shifts: Annotated[
        list[str] | None, typer.Option("--test-shift", help="A shift of test; once or more.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the splits and the shifts.")] = 0,
    params: Params = None,
) -> None:
    """Check that custom code satisfies what stockpot relies on, and say what to change.

    Workloads and merge methods are recognised; other kinds need --kind. Without a name, the
    workload of params.yaml is checked, with its options and shifts. It exits with 1 on a failure.

      stockpot check

      stockpot check workload:Waves --val-shift slow --test-shift noise

      stockpot check methods:my_merge --option density=0.3

      stockpot check rules:my_rule --kind selection
    """
    if name is None:
        if kind or options or val_shifts or test_shifts:
            raise InputError("check: kind, options and shifts must go with a name, got none")
        from stockpot.experiment.opening import make_plan

        spec = make_plan(params, []).workload
        kind, name, results = "workload", spec.name, _check_workload(spec)
    else:
        # The module may be in the working directory.
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        kind = kind_of(name) if kind is None else kind
        shifts = (tuple(val_shifts or ()), tuple(test_shifts or ()))
        results = _check_named(kind, name, parsed_options(options or []), seed, shifts)
    if _show_checks(f"{kind} {name}", results):
        raise typer.Exit(1)


def _check_named(
    kind: str,
    name: str,
    options: dict[str, Any],
    seed: int,
    shifts: tuple[tuple[str, ...], tuple[str, ...]],
) -> Iterator[CheckResult]:
    """Check a workload with its shifts of val and of test, or another plugin."""
    if kind == "workload":
        from stockpot.workloads.spec import WorkloadSpec

        return _check_workload(WorkloadSpec(name, seed, *shifts, tuple(sorted(options.items()))))
    if any(shifts):
        raise InputError(f"check: shifts are of a workload, got them with the {kind} {name!r}")
    return check_plugin(kind, name, options)


def _check_workload(spec: WorkloadSpec) -> Iterator[CheckResult]:
    from stockpot.workloads.checks import check_workload

    return check_workload(spec)


def _show_checks(title: str, results: Iterator[CheckResult]) -> int:
    """Print one line per check, as it ends; return how many failed."""
    counts = dict.fromkeys(_COLOURS, 0)
    OUT.print(title)
    for result in results:
        counts[result.outcome] += 1
        line = Text.assemble(
            (f"{result.outcome:8}", _COLOURS[result.outcome]), f"{result.name:{_WIDTH}} "
        )
        if result.outcome == "failed":
            OUT.print(line)
            OUT.print(Padding(Text(result.message), (0, 0, 0, 8)))
        else:
            OUT.print(line.append(result.message or result.claim, "dim"), soft_wrap=True)
    totals = [f"{count} {outcome}" for outcome, count in counts.items() if count]
    OUT.print(", ".join(totals))
    return counts["failed"]
