"""One run of the pipeline in this process: its plan, workers, tracker and terminal.

Flows and tasks find it with `current_session`. A flow that is started inside a session (a stage
of an experiment, or a flow that the `stockpot` command has prepared) uses the one that is open.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from stockpot.config import load_experiment
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import write_code_keys
from stockpot.storage.dvc import pipeline_around
from stockpot.storage.locks import run_lock
from stockpot.storage.models import Failure, Model
from stockpot.storage.project import Project, export_settings, find_project
from stockpot.workers import WorkerPool, choose_devices

if TYPE_CHECKING:
    from stockpot.tracking import Dataset, Tracker

_TRAINED_ON = {"base": ("pretrain",), "ingredient": ("train",)}
_open: list[Session] = []


@dataclass
class Session:
    """What all flows and tasks of one run share.

    Attributes:
        plan: the experiment and its jobs.
        overrides: `--set` options, as given.
        workers: the worker processes.
        tracker: the MLflow records.
        console: where progress goes.
        adopts: whether outputs are recorded in DVC: only if params.yaml says what was run.
    """

    plan: Plan
    overrides: tuple[str, ...]
    workers: WorkerPool
    tracker: Tracker
    console: Console
    adopts: bool

    @property
    def root(self) -> Path:
        """The project root."""
        return self.plan.project.root

    def log(
        self, made: Model | Failure, keys: Mapping[str, str], seconds: float, making: str = ""
    ) -> None:
        """Record a model, or a failure, in MLflow.

        Args:
            made: what a job came to.
            keys: the content keys of what it was made from, by name.
            seconds: how long the work took.
            making: what it takes to make the model again, as text.
        """
        from stockpot.tracking import MAKING, record_from_manifest

        entry = made.to_json()
        record = record_from_manifest(entry, keys=keys, seconds=seconds)
        is_trained = "imported" not in entry
        trained_on = _TRAINED_ON.get(record.kind, ()) if is_trained else ()
        seen = [self.dataset(name) for name in (*trained_on, "val")]
        files = {MAKING: making} if making else {}
        # MLflow's parallel coordinates leave out a run that lacks a parameter of another one.
        is_varied = record.kind == "ingredient" and is_trained
        varied = self.plan.varied_techniques if is_varied else {}
        record = replace(record, params={**varied, **record.params})
        self.tracker.log_model(replace(record, datasets=tuple(seen), files=files))

    def dataset(self, name: str) -> Dataset:
        """Return a set of examples of the workload, for MLflow."""
        from stockpot.tracking import Dataset

        workload = self.plan.workload
        return Dataset(workload.name, workload.set_digest(name), name)


def current_session() -> Session:
    """Return the open session."""
    assert _open, "a task was called outside a flow; flows open the session"
    return _open[-1]


@contextmanager
def open_session(params: str | None, overrides: Sequence[str] = ()) -> Iterator[Session]:
    """Open the session of a run, or yield the one that is open.

    It holds the project's run lock: a second run waits here, and says for whom.

    Args:
        params: the params file; None looks for params.yaml upwards from here.
        overrides: `field.subfield=value` each.

    Raises:
        InputError: the experiment is not valid, or the tracking server does not answer.
    """
    if _open:
        yield _open[-1]
        return
    project = find_project(Path(params) if params else None)
    export_settings(project)
    import_from(project)
    plan = Plan(project, load_experiment(project.params_file, overrides))
    console = Console(stderr=True)
    with ExitStack() as stack:
        stack.enter_context(hold_run_lock(project, console))
        write_code_keys(plan)
        workers = WorkerPool(
            choose_devices(plan.experiment.run.devices, plan.experiment.run.workers),
            plan.experiment.run.threads,
        )
        stack.callback(workers.close)
        tracker = _open_tracker(plan, workers.devices)
        adopts = not overrides and project.params_file == project.root / "params.yaml"
        session = Session(plan, tuple(overrides), workers, tracker, console, adopts)
        _open.append(session)
        stack.callback(_open.remove, session)
        stack.enter_context(_parent_run(session))
        yield session


def import_from(project: Project) -> None:
    """Make modules in the project folder importable, here and in the workers: own workloads.

    They come last: a copy of this package in the folder must not be half of what a run imports.
    """
    if str(project.root) not in sys.path:
        sys.path.append(str(project.root))


def hold_run_lock(project: Project, console: Console) -> ExitStack:
    """Take the lock that keeps two runs of a project apart; say whom we wait for."""
    stack = ExitStack()
    purpose = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    stack.enter_context(
        run_lock(
            project.state / "run.lock",
            purpose,
            lambda holder: console.print(
                f"[yellow]Another run has this project: {holder}. Waiting for it to end."
            ),
        )
    )
    return stack


def _open_tracker(plan: Plan, devices: Sequence[str]) -> Tracker:
    from stockpot.tracking import Tracker

    track = plan.experiment.track
    return Tracker.open(
        plan.tracking_uri,
        track.experiment,
        plan.project.state,
        offline=track.offline,
        tags=run_tags(plan, devices),
    )


def run_tags(plan: Plan, devices: Sequence[str]) -> dict[str, str]:
    """Return the tags of all runs: what results may depend on besides params.yaml."""
    from stockpot.experiment.opening import environment
    from stockpot.storage.git_state import describe_commit

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


@contextmanager
def _parent_run(session: Session) -> Iterator[None]:
    """Keep the MLflow parent run: close those that killed runs left, open ours, end it truly."""
    tracker, experiment = session.tracker, session.plan.experiment
    for run_id in tracker.left_running():
        tracker.mark_killed(run_id)
    tracker.start_parent(
        f"{experiment.workload.name} seed {experiment.seed}",
        params=_flat(experiment.model_dump(mode="json")),
        tags={},
        pipeline=pipeline_around(),
        datasets=[session.dataset(name) for name in session.plan.workload.set_names],
    )
    tracker.log_view(session.plan.metric.removeprefix("val/"))
    status: Literal["FINISHED", "FAILED", "KILLED"] = "FAILED"
    try:
        yield
        status = "FINISHED"
    except Exception:
        raise
    except BaseException:
        status = "KILLED"
        raise
    finally:
        tracker.finish_parent(status)


def _flat(content: object, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Flatten nested sections to one name a parameter, as MLflow's tables want them."""
    if isinstance(content, dict):
        pairs = content.items()
    elif isinstance(content, list) and any(isinstance(item, dict) for item in content):
        pairs = {str(number): item for number, item in enumerate(content)}.items()
    else:
        value = content if isinstance(content, (str, int, float, bool)) else json.dumps(content)
        return {prefix: value}
    return {
        name: value
        for key, item in pairs
        for name, value in _flat(item, f"{prefix}.{key}" if prefix else key).items()
    }
