"""The command that checks whether a project can run here, and says what to do if not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.padding import Padding
from rich.text import Text

from flows.options import Overrides, Params
from flows.terminal import OUT
from stockpot.errors import InputError

if TYPE_CHECKING:
    from stockpot.experiment.doctor.outcome import Check, Outcome
    from stockpot.experiment.plan import Plan

_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
_INDENT = 9  # of found and advice: behind the longest level
_WIDTH = 13  # of the longest name


def doctor(params: Params = None, overrides: Overrides = None) -> None:
    """Check environment, servers, folders, devices and records, and say what to do.

    One line per check: ok, note (a run works all the same) or problem. It starts and changes
    nothing. The exit code is 1 if there is a problem.

    stockpot doctor
    """
    counts: Counter[str] = Counter()
    for outcome in _outcomes(params, overrides or []):
        counts[outcome.level] += 1
        _show(outcome)
    OUT.print(", ".join(f"{counts[level]} {level}" for level in _COLOURS if counts[level]))
    if counts["problem"]:
        raise typer.Exit(1)


def _outcomes(params: str | None, overrides: list[str]) -> Iterator[Outcome]:
    """Run the checks; without a valid project only those that need none."""
    from stockpot.experiment.doctor.environment import check_environment
    from stockpot.experiment.doctor.outcome import Outcome, outcomes_of
    from stockpot.experiment.opening import make_plan

    yield from outcomes_of("packages", check_environment)
    try:
        plan = make_plan(params, overrides)
    except InputError as error:
        yield Outcome("problem", "project", str(error), "correct it; most checks need it")
    else:
        shown = f"{plan.project.params_file}, valid"
        yield Outcome("ok", "project", shown)
        for name, check in _project_checks(plan).items():
            yield from outcomes_of(name, check)
    yield from outcomes_of("Prefect", _check_server)


def _project_checks(plan: Plan) -> dict[str, Check]:
    from stockpot.experiment.doctor import devices, folders, forecast, records, shared_store

    project = plan.project
    return {
        "write access": partial(folders.check_write_access, project),
        "locks": partial(folders.check_locks, project),
        "leftovers": partial(folders.check_leftovers, project),
        "devices": partial(devices.check_devices, plan),
        "disk": partial(forecast.check_disk, plan),
        "memory": partial(forecast.check_memory, plan),
        "MLflow": partial(records.check_mlflow, plan),
        "records": partial(records.check_records, plan),
        "studies": records.check_studies,
        "store": partial(shared_store.check_store, plan),
    }


def _check_server() -> Iterator[Outcome]:
    url = os.environ.get("PREFECT_API_URL")
    if url:
        from tasks.server_checks import check_server  # imports Prefect, which makes its home

        yield from check_server(url)
    else:
        from stockpot.experiment.doctor.outcome import Outcome

        found = "no PREFECT_API_URL: each run starts the project's server"
        yield Outcome("ok", "Prefect", found)


def _show(outcome: Outcome) -> None:
    """Print one line, and below it what to do."""
    level = (f"{outcome.level:{_INDENT}}", _COLOURS[outcome.level])
    OUT.print(Text.assemble(level, f"{outcome.name:{_WIDTH}} ", outcome.found), soft_wrap=True)
    if outcome.advice:
        OUT.print(Padding(Text(f"-> {outcome.advice}"), (0, 0, 0, _INDENT)), soft_wrap=True)
