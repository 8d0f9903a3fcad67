"""The `stockpot` command."""

from __future__ import annotations

import atexit
import errno
import importlib.metadata
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from gc import freeze, set_threshold
from inspect import getdoc
from io import TextIOWrapper
from typing import Annotated

import typer

from flows.compare_commands import compare
from flows.deploying.commands import deploy, worker
from flows.dimension_commands import dimension
from flows.doctor_command import doctor
from flows.extract_commands import extract_lora
from flows.inspect_command import inspect
from flows.merge_commands import explain, merge, verify
from flows.options import Overrides, Params
from flows.project_commands import check, new
from flows.promote_commands import promote
from flows.push_command import push
from flows.reproduce_commands import reproduce
from flows.send_command import send, send_and_report
from flows.sequence import sequence
from flows.terminal import ERR, OUT, show_error
from stockpot.errors import InputError, StageFailed
from stockpot.experiment.stages import STAGES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        OUT.print(f"stockpot {importlib.metadata.version('stockpot')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the libraries' own logs.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Model-merge experiments: fine-tune many models, merge them, and test whether it helped.

    An experiment is described by [bold]params.yaml[/bold]. A first one:

      stockpot run                      the whole experiment, on scikit-learn's digits

      stockpot run --set sweep.size=20  four more ingredients; existing results are reused

      stockpot ui                       browse the results in MLflow and Prefect
    """
    _set_up_logging(debug)


def _set_up_logging(debug: bool) -> None:
    if debug:
        os.environ["STOCKPOT_DEBUG"] = "1"
    handler = logging.StreamHandler()
    # On the handler, since Prefect's loggers set levels of their own and pass records up.
    handler.setLevel(logging.INFO if debug else logging.WARNING)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    # A failed task is in the table and in Prefect's UI; its traceback is not for the terminal.
    handler.addFilter(lambda record: debug or not record.name.startswith("prefect"))
    logging.getLogger().addHandler(handler)


@app.command(rich_help_panel="Experiment")
def run(params: Params = None, overrides: Overrides = None) -> None:
    """Run the whole experiment: base, sweep, soups, tune, diagnose, evaluate, report.

    Stages that are up to date are skipped, so the same command also resumes an interrupted run.
    At the end it prints the table of results and the path of the report.

      stockpot run --set seed=1 --set sweep.size=8
    """
    _run_stages(params, overrides, [*STAGES])


@app.command(rich_help_panel="Experiment")
def status(params: Params = None, overrides: Overrides = None) -> None:
    """Show which stages are up to date and what a run would do, without running anything.

    stockpot status --set sweep.size=20
    """
    from flows.summary import show_status
    from stockpot.experiment.opening import make_plan

    show_status(make_plan(params, overrides or []), OUT)


@app.command(rich_help_panel="Experiment")
def ui(params: Params = None) -> None:
    """Serve the MLflow and Prefect UIs of this project until Ctrl-C, and print the links.

    stockpot ui
    """
    from flows.ui import serve
    from stockpot.experiment.opening import make_plan

    serve(make_plan(params, []), OUT)


def _stage_command(stage: str) -> Callable[[str | None, list[str] | None], None]:
    def command(params: Params = None, overrides: Overrides = None) -> None:
        _run_stages(params, overrides, [stage])

    return command


for _name, _stage in STAGES.items():
    _help = f"{_stage.help}\n\n{_stage.example}"
    app.command(_name, help=_help, rich_help_panel="Stages")(_stage_command(_name))


@app.command(rich_help_panel="Stages")
def code(params: Params = None, overrides: Overrides = None) -> None:
    """Write results/code: the keys of the code that each stage's results depend on.

    DVC's stages depend on these files; `stockpot run` writes them too.

      stockpot code && dvc status
    """
    from stockpot.experiment.opening import make_plan
    from stockpot.experiment.state import write_code_keys

    plan = make_plan(params, overrides or [])
    write_code_keys(plan)
    send_and_report(plan)


def gc(
    params: Params = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete checkpoints that no manifest refers to, and temporary files of killed runs.

    stockpot gc --yes
    """
    from stockpot.experiment.garbage import delete, find_garbage
    from stockpot.experiment.opening import hold_run_lock, make_plan

    plan = make_plan(params, [])
    with hold_run_lock(plan.project, ERR):
        garbage = find_garbage(plan.project)
        size = sum(path.stat().st_size for path in garbage) / 1e6
        for path in garbage:
            OUT.print(f"  {path.relative_to(plan.project.root)}")
        OUT.print(f"{len(garbage)} unused files, {size:.1f} MB")
        if garbage and (yes or typer.confirm("Delete them?")):
            delete(garbage)
            OUT.print("Deleted. DVC's cache has its own command: dvc gc --workspace")
    send_and_report(plan)


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Models on disk": (merge, inspect, explain, verify, extract_lora, push),
    "Results": (compare, promote, reproduce, dimension),
    "Experiment": (sequence, send),
    "Project": (new, check, doctor, gc),
    "Schedule": (deploy, worker),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
for _registered in app.registered_commands:
    # Paragraphs are wrapped to the terminal, not where the source wraps them.
    _registered.help = re.sub(
        r"(?<!\n)\n(?!\n)", " ", _registered.help or getdoc(_registered.callback) or ""
    )


def _run_stages(params: str | None, overrides: list[str] | None, stages: Sequence[str]) -> None:
    """Run stages and print their results."""
    from flows.launch import launch
    from flows.summary import show_results
    from stockpot.experiment.opening import make_plan

    worked = launch(params, overrides or [], stages, ERR)
    show_results(make_plan(params, overrides or []), stages, OUT, worked=worked)


def main() -> None:
    """Run the command; errors are printed in a red panel.

    Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    # Prefect and MLflow are a million objects that are never freed: without this the collector
    # would scan them for 0.5 s while they are imported and for 1.2 s when the process ends.
    set_threshold(50_000)
    atexit.register(freeze)
    if isinstance(sys.stdout, TextIOWrapper):  # a name that it cannot show must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except InputError as error:
        _fail("Cannot start", error, code=2)
    except StageFailed as error:
        _fail("Failed", error, code=1)
    except SystemExit as end:  # what typer makes of a KeyboardInterrupt
        if end.code == 130:
            ERR.print(
                "Interrupted. The same command continues where this one stopped.", style="yellow"
            )
            # All that the run started has ended. At a normal exit Prefect would try for a minute to
            # send its last events to the server, which has ended too.
            with suppress(OSError):  # whoever read the output, such as `head`, has ended first
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(130)
        raise
    except Exception as error:  # noqa: BLE001 (the last resort: no traceback unless asked for)
        _fail(*_in_words(error), code=1)


def _in_words(error: Exception) -> tuple[str, Exception]:
    """Return the title and the text of an error that no part of stockpot expects."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename2 or error.filename or "the place of the output"
        text = f"{where}: the disk is full; free some space, and run the same command again"
        return "Failed", StageFailed(text)
    return f"Failed with {type(error).__name__}", error


def _fail(title: str, error: Exception, code: int) -> None:
    if os.environ.get("STOCKPOT_DEBUG"):
        traceback.print_exc()
    hint = "" if code == 2 else "  (stockpot --debug shows where)"
    show_error(f"{title}{hint}", f"{error}")
    sys.exit(code)
