"""Open a project: read its plan, take its run lock, connect to its tracking store."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.console import Console

from stockpot.config import load_experiment
from stockpot.experiment.anchor_checks import check_anchors
from stockpot.experiment.corruption_checks import check_corruptions
from stockpot.experiment.jobs.shared_scores import studies_address
from stockpot.experiment.plan import Plan
from stockpot.experiment.run_checks import check_runs
from stockpot.experiment.task_checks import check_tasks
from stockpot.experiment.technique_checks import check_techniques
from stockpot.storage.dvc import adopt_outputs, describe_commit
from stockpot.storage.locks import run_lock
from stockpot.storage.manifests import made_models, read_manifest
from stockpot.storage.project import Project, export_settings, find_project
from stockpot.storage.remote.opening import use_store
from stockpot.storage.store import Store

if TYPE_CHECKING:
    from stockpot.tracking.tracker import Tracker


def make_plan(params: str | None, overrides: Sequence[str]) -> Plan:
    """Read the experiment and set up the environment for it; start nothing.

    Args:
        params: the params file; None looks for params.yaml in this folder and those above.
        overrides: `field.subfield=value` each.

    Raises:
        InputError: the experiment is not valid, or its workload cannot be built.
    """
    project = find_project(Path(params) if params else None)
    export_settings(project)
    import_from(project)
    plan = Plan(project, load_experiment(project.params_file, overrides))
    workload = plan.workload.build()  # an error in it must come before anything is written
    check_techniques(plan)
    check_tasks(plan.experiment, workload)
    check_anchors(plan.experiment, workload)
    check_corruptions(plan.experiment, workload)
    check_runs(plan.experiment)
    studies_address()
    if metrics := plan.experiment.evaluate.metrics:
        from stockpot.scoring.metrics.by_task import metrics_of  # imports torch

        metrics_of(workload, metrics)  # names that are taken
    return plan


def import_from(project: Project) -> None:
    """Make the modules of a project, such as its workload, importable here and in the workers.

    The folder comes last on the path, so that a copy of this package in it is not imported.
    """
    if str(project.root) not in sys.path:
        sys.path.append(str(project.root))


def hold_run_lock(project: Project, console: Console) -> AbstractContextManager[None]:
    """Return the lock that keeps two runs of a project apart; it prints whom it waits for."""
    return run_lock(
        project.run_lock,
        " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        lambda holder: console.print(
            f"Another run has this project: {holder}. Waiting for it to end.",
            style="yellow",
            markup=False,
        ),
    )


def open_store(plan: Plan) -> None:
    """Let all processes of a run use the store of params.yaml; under the run lock.

    Raises:
        InputError: it cannot be used: no such bucket, no permission, another format.
        StageFailed: it does not answer.
    """
    use_store(plan.project.root, plan.experiment.store)


def share_models(plan: Plan, stages: Sequence[str]) -> None:
    """Upload the models of finished stages that a shared store lacks, if there is one.

    Raises:
        InputError: a request is not permitted, or a local file is damaged.
        StageFailed: the store does not answer.
    """
    if plan.experiment.store is None:
        return
    root = plan.project.root
    for stage in stages:
        Store(root).share(made_models(read_manifest(root, stage)))


def record_in_dvc(plan: Plan, overrides: Sequence[str], stages: Sequence[str]) -> str | None:
    """Record outputs of stages in dvc.lock, if params.yaml alone describes the run.

    Returns:
        Why they cannot be recorded; None if they are, or if overrides or another params file
        were used.
    """
    project = plan.project
    if overrides or project.params_file != project.root / "params.yaml":
        return None
    return adopt_outputs(project.root, stages)


def open_tracker(
    plan: Plan, *, offline: bool = False, tags: Mapping[str, str] = MappingProxyType({})
) -> Tracker:
    """Open the project's tracking store; start no run.

    Args:
        plan: of the project.
        offline: whether to go on if the server does not answer.
        tags: of all runs that are recorded.

    Raises:
        InputError: it does not answer, or cannot be used.
    """
    from stockpot.tracking.tracker import Tracker

    track, state = plan.experiment.track, plan.project.state
    return Tracker.open(plan.tracking_uri, track.experiment, state, offline=offline, tags=tags)


def run_tags(plan: Plan, devices: Sequence[str]) -> dict[str, str]:
    """Return the tags of all runs: what results may depend on besides params.yaml."""
    tags = {
        "stockpot.seed": str(plan.experiment.seed),
        "stockpot.workload": plan.experiment.workload.name,
        "stockpot.git_commit": describe_commit(plan.project.root),
        "stockpot.devices": ", ".join(sorted(set(devices))),
        **environment(),
    }
    if "DVC_EXP_NAME" in os.environ:
        tags["stockpot.dvc_experiment"] = os.environ["DVC_EXP_NAME"]
    return tags


def environment() -> dict[str, str]:
    """Return what the bits of weights may depend on besides the code, as tags of runs."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    machine = {"python": platform.python_version(), "machine": _processor()}
    return {f"stockpot.{name}": value for name, value in (versions | machine).items()}


def _processor() -> str:
    """Return the kind of processor: its instructions order sums, and so decide the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return ", ".join([platform.machine(), *models[:1]])
