"""Having a worker make a model: what training, merging and tuning have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from prefect import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from stockpot.experiment.jobs.importing import ImportJob
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.provenance import making_of
from stockpot.storage.models import Failure, Model
from tasks.session import current_session


class ModelFailed(RuntimeError):
    """A job ended without a model.

    Attributes:
        failure: which, and why.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def make_model(
    job: TrainingJob | ImportJob | SoupJob | TuningJob,
    work: Callable[[Any, str], Model | Failure],
    keys: Mapping[str, str],
    timeout_seconds: float | None = None,
) -> Model | State[Model]:
    """Have a worker make the model of a job, and record it in MLflow.

    Args:
        job: what to make.
        work: the library's function for it, called in a worker process.
        keys: the content keys of what it is made from, by name.
        timeout_seconds: after which the worker is killed.

    Returns:
        The model; in a state named "Skipped" if the store had it.

    Raises:
        ModelFailed: the model cannot be made.
        WorkerLost: the worker died.
        TimeoutError: it took too long.
    """
    session = current_session()
    was_there = job.find() is not None
    start = time.monotonic()
    made = session.workers.run(work, job, timeout_seconds=timeout_seconds)
    making = "" if isinstance(made, Failure) else making_of(job, made).to_text()
    session.log(made, keys, 0.0 if was_there else time.monotonic() - start, making)
    if isinstance(made, Failure):
        raise ModelFailed(made)
    scores = ", ".join(f"{name} {score:.3f}" for name, score in made.scores.items())
    get_run_logger().info("%s: %s", made.name, scores)
    return Completed(name="Skipped", message="in the store", data=made) if was_there else made
