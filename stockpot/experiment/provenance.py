"""What it takes to make a model again, as plain values: recorded with each model."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.experiment.jobs.importing import ImportJob
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.tracking import RecordedRun


@dataclass(frozen=True, slots=True)
class Making:
    """What it takes to make a model again.

    Attributes:
        model: the model as it was recorded, whose details say how it was made.
        workload: what it was trained or chosen on.
        seed: of a merge method that draws random numbers.
        threads: torch threads of the worker that trained it.
        base: what it, or its ingredients, were trained from; None for a base.
        ingredients: those that were merged, in the order of the merge.
    """

    model: Model
    workload: WorkloadSpec
    seed: int = 0
    threads: int = 1
    base: Checkpoint | None = None
    ingredients: tuple[tuple[str, Checkpoint], ...] = ()

    def to_text(self) -> str:
        """Return the making as JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_text(cls, text: str) -> Making:
        """Return the making that `to_text` gave."""
        values = json.loads(text)
        workload = values["workload"]
        for name in ("val_shifts", "test_shifts"):
            workload[name] = tuple(workload[name])
        workload["options"] = tuple(map(tuple, workload["options"]))
        return cls(
            model=Model(**values["model"]),
            workload=WorkloadSpec(**workload),
            seed=values["seed"],
            threads=values["threads"],
            base=Checkpoint(**values["base"]) if values["base"] else None,
            ingredients=tuple(
                (n, Checkpoint(**reference)) for n, reference in values["ingredients"]
            ),
        )


def making_of(job: TrainingJob | ImportJob | SoupJob | TuningJob, model: Model) -> Making:
    """Return what it takes to make the model of a job again."""
    if isinstance(job, ImportJob):
        return Making(model, job.workload, base=job.start)
    if isinstance(job, TrainingJob):
        return Making(model, job.workload, threads=job.threads, base=job.start)
    merged = _merged(job, model)
    references = tuple((ingredient.name, ingredient.checkpoint) for ingredient in merged)
    return Making(model, job.workload, job.seed, base=job.base.checkpoint, ingredients=references)


def environment() -> dict[str, str]:
    """Return what the bits of weights may depend on besides the code, as tags of runs."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    machine = {"python": platform.python_version(), "machine": _processor()}
    return {f"stockpot.{name}": value for name, value in (versions | machine).items()}


def read_making(run: RecordedRun) -> Making:
    """Return what a run says of how its model was made.

    Raises:
        InputError: it says nothing: an ensemble, a failure, or a run of an older version.
    """
    if run.making is None:
        why = "an ensemble has no weights" if run.kind == "ensemble" else "it does not say how"
        raise InputError(f"run {run.run_id} ({run.name!r}): cannot be made again, {why}")
    return Making.from_text(run.making)


def _merged(job: SoupJob | TuningJob, model: Model) -> Sequence[Model]:
    """Return the ingredients of a soup in the order in which they were merged."""
    if isinstance(job, SoupJob) and job.select == "top_k":
        return [job.ingredients[p] for p in rank(job.ingredients, job.metric)[: job.k]]
    by_name = {ingredient.name: ingredient for ingredient in job.ingredients}
    if isinstance(job, SoupJob) and job.select == "greedy":
        steps = model.details["steps"]
        return [by_name[step["ingredient"]] for step in steps if step["accepted"]]
    used = model.details["inputs"]
    return [ingredient for ingredient in job.ingredients if ingredient.name in used]


def _processor() -> str:
    """Return the kind of processor: its instructions order sums, and so decide the last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return ", ".join([platform.machine(), *models[:1]])
