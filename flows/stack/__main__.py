"""The command `python -m flows.stack`: all servers of a project on this machine, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Annotated

import typer

from flows.stack.servers import POOL, run_stack
from flows.terminal import OUT, show_error
from stockpot.errors import InputError, StageFailed
from stockpot.storage.project import export_settings, find_project


def stack(
    prefect_port: Annotated[int, typer.Option(help="Of Prefect's UI and API.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Of MLflow.")] = 5000,
) -> None:
    """Start PostgreSQL (if it is installed), Prefect, MLflow and a worker on this machine.

    Their data is in .stockpot/stack of the project, their logs in .stockpot/logs. They listen on
    the loopback interface alone, and end with Ctrl-C.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: ended.set())
    try:
        project = find_project()
        export_settings(project)
        with run_stack(project, prefect_port, mlflow_port) as running:
            OUT.print(f"Prefect     {running.prefect}", soft_wrap=True)
            OUT.print(f"MLflow      {running.mlflow}", soft_wrap=True)
            if running.postgres is None:
                OUT.print(f"PostgreSQL  none, SQLite files instead: {running.note}", soft_wrap=True)
            else:
                studies = running.postgres.url("optuna", "psycopg2")
                OUT.print(f"PostgreSQL  {studies}", soft_wrap=True)
            OUT.print(f"worker      of the pool {POOL}")
            OUT.print("\nIn other terminals:", soft_wrap=True)
            OUT.print(f"  export PREFECT_API_URL={running.prefect}/api", soft_wrap=True)
            OUT.print(f"  export MLFLOW_TRACKING_URI={running.mlflow}", soft_wrap=True)
            OUT.print("\nCtrl-C stops all.")
            ended.wait()
    except InputError as error:
        show_error("Cannot start", str(error))
        sys.exit(2)
    except StageFailed as error:
        show_error("Failed", str(error))
        sys.exit(1)


if __name__ == "__main__":
    typer.run(stack)
