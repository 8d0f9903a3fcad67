"""Serving the UIs of a project: MLflow to compare soups, Prefect to follow runs."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack

from rich.console import Console

from flows.server import free_port, project_server, start_process, wait_until_healthy
from stockpot.manifests import manifest_path, models_of, read_manifest
from stockpot.planning import Plan
from stockpot.tracking import Tracker, compare_url, experiment_url
from stockpot.tracking.addresses import is_server


def serve(plan: Plan, console: Console) -> None:
    """Serve until Ctrl-C; runs that start meanwhile use the same Prefect server.

    Raises:
        StageFailed: a server does not start.
        KeyboardInterrupt: at Ctrl-C, when both servers have ended.
    """
    with ExitStack() as stack:
        wait_for_prefect = stack.enter_context(project_server(plan.project, with_ui=True))
        mlflow = _mlflow(plan, stack)
        wait_for_prefect()
        prefect = os.environ["PREFECT_API_URL"].removesuffix("/api")
        for title, link in _links(plan, mlflow, prefect).items():
            console.print(f"{title:<22} {link}", highlight=False, soft_wrap=True)
        console.print("\nCtrl-C ends both.")
        while True:
            time.sleep(3600)


def _mlflow(plan: Plan, stack: ExitStack) -> str:
    """Return the address of the MLflow UI; it is started unless runs are on a server already."""
    uri = plan.tracking_uri
    if is_server(uri):
        return uri
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (plan.project.state / "mlartifacts").as_uri()]
    process = stack.enter_context(start_process(plan.project, "mlflow", command))
    address = f"http://127.0.0.1:{port}"
    wait_until_healthy(process, f"{address}/health", plan.project, "mlflow")
    return address


def _links(plan: Plan, mlflow: str, prefect: str) -> dict[str, str]:
    """Return the pages that are worth opening first."""
    track = plan.experiment.track
    tracker = Tracker.open(
        plan.tracking_uri, track.experiment, plan.project.state, offline=False, tags={}
    )
    links = {"Prefect, all runs": f"{prefect}/runs"}
    experiment = tracker.experiment_id
    if experiment is None:
        return links
    keys = [
        model.key
        for stage in ("soups", "tune")
        if manifest_path(plan.project.root, stage).is_file()
        for model in models_of(read_manifest(plan.project.root, stage))
    ]
    run_ids = [run_id for key in keys if (run_id := tracker.run_id(key))]
    links["MLflow, all models"] = experiment_url(mlflow, experiment)
    if run_ids:
        links["MLflow, compare soups"] = compare_url(mlflow, run_ids, [experiment])
    return links
