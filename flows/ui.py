"""Serve the UIs of a project: MLflow to compare soups, Prefect to follow runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from flows.server import answers, free_port, project_server, server_lock, start_server
from stockpot.experiment.opening import open_tracker
from stockpot.experiment.plan import Plan
from stockpot.experiment.promotion import CHAMPION, registered_name
from stockpot.storage.locks import try_lock
from stockpot.tracking.addresses import (
    compare_url,
    experiment_url,
    is_server,
    registered_model_url,
    run_url,
)

if TYPE_CHECKING:
    from filelock import FileLock

# Title of each page that compares runs -> the stages whose models it shows. For ingredients, the
# page's parallel coordinates show which hyperparameters go with good scores.
_COMPARED = {
    "MLflow, compare soups": ("soups", "tune"),
    "MLflow, compare ingredients": ("sweep",),
}


def serve(plan: Plan, console: Console) -> None:
    """Serve until Ctrl-C; runs that start in the meantime use the same Prefect server.

    Raises:
        StageFailed: a server does not start.
        KeyboardInterrupt: on Ctrl-C, after both servers have stopped.
    """
    with ExitStack() as stack:
        lock = server_lock(plan.project)
        is_free = try_lock(lock)
        wait_for_prefect = _prefect(plan, stack, lock) if is_free else None
        mlflow = _mlflow(plan, stack)
        _show(_mlflow_links(plan, mlflow), console)
        if wait_for_prefect is None:
            console.print("Prefect: a run has the project's server, without UI. Waiting for it.")
            lock.acquire()
            wait_for_prefect = _prefect(plan, stack, lock)
        wait_for_prefect()
        prefect = os.environ["PREFECT_API_URL"].removesuffix("/api")
        _show({"Prefect, all runs": f"{prefect}/runs"}, console)
        console.print("\nCtrl-C stops both.")
        while True:
            time.sleep(3600)


def _prefect(plan: Plan, stack: ExitStack, lock: FileLock) -> Callable[[], None]:
    """Start the project's Prefect server, whose lock is held; return what waits until it is up."""
    stack.callback(lock.release)
    return stack.enter_context(project_server(plan.project, with_ui=True))


def _show(links: dict[str, str], console: Console) -> None:
    for title, link in links.items():
        console.print(f"{title:<28} {link}", soft_wrap=True)


def _mlflow(plan: Plan, stack: ExitStack) -> str:
    """Return the address of the MLflow UI; start it unless the store is a server already."""
    uri = plan.tracking_uri
    if is_server(uri):
        return uri
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (plan.project.state / "mlartifacts").as_uri()]
    address = f"http://127.0.0.1:{port}"
    is_up = partial(answers, f"{address}/health")
    server = start_server(plan.project, "mlflow", command, is_up)
    wait_for_mlflow = stack.enter_context(server)
    wait_for_mlflow()
    return address


def _mlflow_links(plan: Plan, mlflow: str) -> dict[str, str]:
    """Collect the pages of MLflow to open first: title -> URL."""
    tracker = open_tracker(plan)
    experiment = tracker.store.experiment_id
    if experiment is None:
        return {}
    links = {"MLflow, all models": experiment_url(mlflow, experiment)}
    for title, stages in _COMPARED.items():
        keys = [model.key for model in plan.recorded_models(*stages)]
        if run_ids := [run_id for key in keys if (run_id := tracker.run_id(key))]:
            links[title] = compare_url(mlflow, run_ids, [experiment])
    if last := tracker.newest_run_id:
        links["MLflow, newest run"] = run_url(mlflow, experiment, last)
    name = registered_name(plan)
    if tracker.registry(name).alias(CHAMPION):
        links["MLflow, champion"] = registered_model_url(mlflow, name)
    return links
