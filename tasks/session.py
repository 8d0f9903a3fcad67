"""The session of a run in this process: its plan, workers, tracker and terminal.

Flows and tasks get it from `current_session`. A flow that is started inside a session (a stage of
an experiment, or a flow of the `stockpot` command) uses the open one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from stockpot.experiment.opening import (
    hold_run_lock,
    make_plan,
    open_store,
    open_tracker,
    run_tags,
)
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import write_code_keys
from stockpot.storage.dvc import pipeline_around
from stockpot.storage.manifests import models_of, read_manifest
from stockpot.storage.models import Failure, Model
from stockpot.workers import WorkerPool, choose_devices
from tasks.progress import step_progress

if TYPE_CHECKING:
    from stockpot.tracking.records import Dataset
    from stockpot.tracking.tracker import Tracker

T = TypeVar("T")

_TRAINED_ON = {"base": ("pretrain",), "ingredient": ("train",)}
_open: list[Session] = []


@dataclass
class Session:
    """State that all flows and tasks of a run share.

    Attributes:
        plan: the experiment and its jobs.
        overrides: `--set` options, as given.
        workers: the worker processes.
        tracker: the MLflow records.
        console: for progress and messages.
    """

    plan: Plan
    overrides: tuple[str, ...]
    workers: WorkerPool
    tracker: Tracker
    console: Console

    @property
    def root(self) -> Path:
        """The project root."""
        return self.plan.project.root

    def run_in_steps(
        self,
        name: str,
        function: Callable[..., T],
        *arguments: object,
        timeout_seconds: float | None = None,
    ) -> T:
        """Call `function(*arguments, device)` in a worker process and show its progress.

        Args:
            name: of the job, as shown.
            function: reports its steps if it is long.
            arguments: of the function, but the last one.
            timeout_seconds: after which its worker is killed.
        """
        with step_progress(self.console, name) as on_step:
            return self.workers.run(
                function, *arguments, timeout_seconds=timeout_seconds, on_step=on_step
            )

    def log(
        self,
        made: Model | Failure,
        parents: Mapping[str, str],
        seconds: float = 0.0,
        provenance: str = "",
    ) -> None:
        """Record a model, or a failure, in MLflow.

        Args:
            made: the model, or why there is none.
            parents: content keys of the models that it was made from, by name.
            seconds: duration of the work.
            provenance: of the model, as text.
        """
        from stockpot.tracking.manifests import record_from_manifest
        from stockpot.tracking.recorded import PROVENANCE

        entry = made.to_json()
        record = record_from_manifest(entry, keys=parents, seconds=seconds)
        is_trained = "imported" not in entry
        trained_on = _TRAINED_ON.get(record.kind, ()) if is_trained else ()
        seen = [self.dataset(name) for name in (*trained_on, "val")]
        files = {PROVENANCE: provenance} if provenance else {}
        # MLflow's parallel coordinates leave out a run that lacks a parameter of another one.
        is_varied = record.kind == "ingredient" and is_trained
        params = {**(self.plan.varied_techniques if is_varied else {}), **record.params}
        record = replace(record, params=params, datasets=tuple(seen), files=files)
        self.tracker.log_model(record)

    def has_recorded(self, stage: str) -> bool:
        """Return whether MLflow has all models of a stage that is done; True if it is away."""
        return self.tracker.has_models(
            model.key for model in models_of(read_manifest(self.root, stage))
        )

    def dataset(self, name: str) -> Dataset:
        """Return MLflow's description of one set of the workload's examples."""
        from stockpot.tracking.records import Dataset

        workload = self.plan.workload
        return Dataset(workload.name, workload.set_digest(name), name)


def current_session() -> Session:
    """Return the open session."""
    assert _open, "a task was called outside a flow; flows open the session"
    return _open[-1]


@contextmanager
def open_session(params: str | None, overrides: Sequence[str] = ()) -> Iterator[Session]:
    """Open the session of a run, or yield the one that is open.

    It holds the project's run lock: a second run waits here and prints whom it waits for.

    Args:
        params: the params file; None looks for params.yaml in this folder and those above.
        overrides: `field.subfield=value` each.

    Raises:
        InputError: the experiment is not valid, the tracking server does not answer, or the shared
            store cannot be used.
        StageFailed: the shared store does not answer.
    """
    if _open:
        yield _open[-1]
        return
    plan = make_plan(params, overrides)
    console = Console(stderr=True)
    with ExitStack() as stack:
        stack.enter_context(hold_run_lock(plan.project, console))
        open_store(plan)
        write_code_keys(plan)
        workers = WorkerPool(
            choose_devices(plan.experiment.run.devices, plan.experiment.run.workers),
            plan.experiment.run.threads,
        )
        stack.callback(workers.close)
        tags = run_tags(plan, workers.devices)
        tracker = open_tracker(plan, offline=plan.experiment.track.offline, tags=tags)
        session = Session(plan, tuple(overrides), workers, tracker, console)
        _open.append(session)
        stack.callback(_open.remove, session)
        stack.enter_context(_parent_run(session))
        yield session


@contextmanager
def _parent_run(session: Session) -> Iterator[None]:
    """Start the MLflow parent run, end it with its status, and mark those of killed runs."""
    tracker, experiment = session.tracker, session.plan.experiment
    for run_id in tracker.left_running():
        tracker.mark_killed(run_id)
    tracker.start_parent(
        f"{experiment.workload.name} seed {experiment.seed}",
        params=_flat_params(experiment.model_dump(mode="json")),
        tags={},
        pipeline=pipeline_around(),
        datasets=[session.dataset(name) for name in session.plan.workload.set_names],
    )
    tracker.log_view(session.plan.metric.removeprefix("val/"))
    with tracker.open_parent():
        yield


def _flat_params(content: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    """Flatten params.yaml to dotted names, as MLflow's tables need them."""
    from stockpot.tracking.records import flatten

    flat = flatten(content, number_lists=True)
    return {
        name: value if isinstance(value, (str, int, float)) else json.dumps(value)
        for name, value in flat.items()
        if value != {}
    }
