"""The `stockpot` command."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import traceback
from gc import freeze, set_threshold
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel

from flows.compare_commands import compare
from flows.merge_commands import explain, inspect, merge, verify
from flows.promote_commands import promote
from flows.reproduce_commands import reproduce
from flows.workload_commands import check_workload, new
from stockpot.errors import InputError, StageFailed
from stockpot.experiment.stages import STAGES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_out, _err = Console(), Console(stderr=True)

Params = Annotated[
    str | None,
    typer.Option(
        "--params", "-p", help="The experiment; by default params.yaml, here or in a folder above."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. sweep.size=4."),
]


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the libraries' own logs.")
    ] = False,
) -> None:
    """Model-merge experiments: fine-tune many, merge, tune, and judge honestly.

    Everything about an experiment stands in [bold]params.yaml[/bold]. A first experiment:

      stockpot run                      the whole of it, on scikit-learn's digits

      stockpot run --set sweep.size=20  four more ingredients; what is there is not made again

      stockpot ui                       look at it in MLflow and Prefect
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


@app.command()
def run(params: Params = None, overrides: Overrides = None) -> None:
    """Do the whole experiment: base, sweep, soups, tune, diagnose, evaluate, report.

    What is done already is skipped, so the same command also resumes and repeats. It ends with
    the table of results and the path of the report.

      stockpot run --set seed=1 --set sweep.size=8
    """
    _stages(params, overrides, STAGES)


@app.command()
def base(params: Params = None, overrides: Overrides = None) -> None:
    """Pretrain the base, the model that every ingredient starts from.

    stockpot base --set base.epochs=40
    """
    _stages(params, overrides, ["base"])


@app.command()
def sweep(params: Params = None, overrides: Overrides = None) -> None:
    """Fine-tune the ingredients, side by side; only those that are not there yet.

    stockpot sweep --set sweep.size=20
    """
    _stages(params, overrides, ["sweep"])


@app.command()
def soups(params: Params = None, overrides: Overrides = None) -> None:
    """Choose ingredients on val and merge them: one soup a recipe.

    stockpot soups --set 'soups=[{name: top3, select: top_k, k: 3}]'
    """
    _stages(params, overrides, ["soups"])


@app.command()
def tune(params: Params = None, overrides: Overrides = None) -> None:
    """Search merge coefficients on val; an interrupted search by Optuna goes on.

    stockpot tune --set tune.0.trials=200
    """
    _stages(params, overrides, ["tune"])


@app.command()
def diagnose(params: Params = None, overrides: Overrides = None) -> None:
    """Look at ingredients and soups: barriers, similarity, what each is worth; on val alone.

    stockpot diagnose --set 'diagnose=[barriers, soup_size]'
    """
    _stages(params, overrides, ["diagnose"])


@app.command()
def evaluate(params: Params = None, overrides: Overrides = None) -> None:
    """Judge all models on test and the test shifts, with intervals.

    stockpot evaluate --set evaluate.bootstrap=10000
    """
    _stages(params, overrides, ["evaluate"])


@app.command()
def report(params: Params = None, overrides: Overrides = None) -> None:
    """Write results/report.html.

    stockpot report && xdg-open results/report.html
    """
    _stages(params, overrides, ["report"])


@app.command()
def code(params: Params = None, overrides: Overrides = None) -> None:
    """Write results/code, the keys of the code that each stage's results depend on.

    DVC's stages depend on these files; `stockpot run` writes them too.

      stockpot code && dvc status
    """
    from stockpot.experiment.opening import make_plan
    from stockpot.experiment.state import write_code_keys

    write_code_keys(make_plan(params, overrides or []))


@app.command()
def status(params: Params = None, overrides: Overrides = None) -> None:
    """Say which stages are done and what a run would do; start nothing.

    stockpot status --set sweep.size=20
    """
    from flows.summary import show_status
    from stockpot.experiment.opening import make_plan

    show_status(make_plan(params, overrides or []), _out)


@app.command()
def ui(params: Params = None) -> None:
    """Serve the MLflow and Prefect UIs of this project until Ctrl-C, and print the links.

    stockpot ui
    """
    from flows.ui import serve
    from stockpot.experiment.opening import make_plan

    serve(make_plan(params, []), _out)


@app.command()
def gc(
    params: Params = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete checkpoints that no manifest names, and what killed runs left behind.

    stockpot gc --yes
    """
    from stockpot.experiment.garbage import delete, find_garbage
    from stockpot.experiment.opening import hold_run_lock, make_plan

    plan = make_plan(params, [])
    with hold_run_lock(plan.project, _err):
        garbage = find_garbage(plan.project)
        size = sum(path.stat().st_size for path in garbage) / 1e6
        for path in garbage:
            _out.print(f"  {path.relative_to(plan.project.root)}", highlight=False)
        _out.print(f"{len(garbage)} files that nothing names, {size:.1f} MB")
        if garbage and (yes or typer.confirm("Delete them?")):
            delete(garbage)
            _out.print("Deleted. DVC's cache has its own command: dvc gc --workspace")


for _command in (new, check_workload, compare, promote, reproduce, merge, inspect, explain, verify):
    app.command()(_command)


def _stages(
    params: str | None, overrides: list[str] | None, stages: list[str] | tuple[str, ...]
) -> None:
    """Run stages and say what came of it."""
    from flows.launch import launch
    from flows.summary import show_results
    from stockpot.experiment.opening import make_plan

    worked = launch(params, overrides or [], stages, _err)
    show_results(make_plan(params, overrides or []), stages, _out, worked=worked)


def main() -> None:
    """Run the command; errors are one red paragraph, and the exit code says of what kind.

    0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    # Prefect and MLflow are a million objects that live to the end: without this the collector
    # would search them for 0.5 s while they are imported and for 1.2 s when the process ends.
    set_threshold(50_000)
    atexit.register(freeze)
    try:
        app()
    except InputError as error:
        _fail("Cannot start", error, code=2)
    except StageFailed as error:
        _fail("Failed", error, code=1)
    except SystemExit as end:  # what typer makes of a KeyboardInterrupt
        if end.code == 130:
            _err.print("[yellow]Interrupted. The same command continues where this one stopped.")
            # All that the run started has ended. At a normal exit Prefect would try for a minute to
            # send its last events to the server, which has ended too.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        raise
    except Exception as error:  # noqa: BLE001 (the last resort: no traceback unless asked for)
        _fail(f"Failed with {type(error).__name__}", error, code=1)


def _fail(title: str, error: Exception, code: int) -> None:
    if os.environ.get("STOCKPOT_DEBUG"):
        traceback.print_exc()
    hint = "" if code == 2 else "  (stockpot --debug shows where)"
    _err.print(
        Panel(
            f"{error}", title=f"{title}{hint}", title_align="left", border_style="red", style="red"
        )
    )
    sys.exit(code)
