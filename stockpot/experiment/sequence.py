"""Learning tasks one after another, and what is kept and forgotten meanwhile (ZSCL).

Zheng et al. 2023, https://arxiv.org/abs/2303.06628. Each task starts from the model of the one
before, which is an average along its run if the hyperparameters ask for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.jobs.job import ModelJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import is_done
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.judging.test_sets import cached_values, predict_on_sets
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.models import Failure, Model
from stockpot.workloads.spec import WorkloadSpec

MANIFEST = "sequence"
"""Name of the manifest of a sequence, results/sequence.json."""

Make = Callable[[ModelJob, Plan], Model]


@dataclass(frozen=True, slots=True)
class Kept:
    """How well a sequence keeps what its models could do; fractions of the first metric on test.

    Attributes:
        last: mean score of the last model over all tasks.
        average: mean score over tasks and over the models after each task.
        transfer: mean score on tasks that are learned only later; the higher it is, the better the
            zero-shot ability is kept.
        base_transfer: the base's mean score on these tasks.
        forgetting: mean over all tasks but the last of the best score before the last task, less
            the score at the end (Chaudhry et al. 2018, https://arxiv.org/abs/1801.10112).
    """

    last: float
    average: float
    transfer: float
    base_transfer: float
    forgetting: float

    @classmethod
    def of(cls, scores: Sequence[Sequence[float]]) -> Kept:
        """Compute it from scores of T + 1 models on T tasks: of the base, then after each task."""
        after, size = scores[1:], len(scores[0])
        by_task = [[after[model][task] for model in range(task)] for task in range(1, size)]
        forgotten = [
            max(after[model][task] for model in range(task, size - 1)) - after[-1][task]
            for task in range(size - 1)
        ]
        return cls(
            last=_mean(after[-1]),
            average=_mean([_mean(row) for row in after]),
            transfer=_mean([_mean(column) for column in by_task]),
            base_transfer=_mean(scores[0][1:]),
            forgetting=_mean(forgotten),
        )


def check_sequence(plans: Sequence[Plan]) -> None:
    """Check that the tasks can be learned one after another.

    Raises:
        InputError: they cannot.
    """
    if len(plans) < 2:
        raise InputError(f"sequence: must have at least 2 tasks, got {len(plans)}")
    first = plans[0]
    for plan in plans:
        where = plan.project.params_file.name
        sweep = plan.experiment.sweep
        if plan.project.root != first.project.root:
            raise InputError(
                f"{where}: must be in the folder of the first task, {first.project.root}, got "
                f"{plan.project.root}"
            )
        if sweep.size == 0:
            raise InputError(f"{where}: sweep.size must be at least 1 in a sequence, got 0")
        if plan.metric != first.metric:
            raise InputError(
                f"{where}: the first metric must be that of the first task, {first.metric}, got "
                f"{plan.metric}"
            )
        if sweep.reference is not None:
            raise InputError(f"{where}: sweep.reference must be null in a sequence; anchor: base")
        if sweep.phases:
            raise InputError(
                f"{where}: sweep.phases must be empty in a sequence, got {len(sweep.phases)}"
            )


def base_of(plan: Plan, make: Make) -> Model:
    """Return the base that a sequence begins with.

    Raises:
        InputError: it is imported, and `stockpot base` has not been run.
    """
    if is_done(plan, "base"):
        return plan.base()
    if plan.experiment.base.import_:
        raise InputError("sequence: an imported base must be there; run `stockpot base` first")
    return make(plan.base_job(), plan)


def task_job(plan: Plan, number: int, start: Model, base: Model) -> TrainingJob:
    """Return the run of one task: the first point of its sweep.

    Args:
        plan: of the task.
        number: of the task, from 1.
        start: the model before it.
        base: the model before the first task, which `anchor: base` names.
    """
    experiment = plan.experiment
    sweep = experiment.sweep
    [point] = sweep.points(experiment.seed, 1)
    hyperparameters = Hyperparameters.from_point(point)
    return TrainingJob(
        root=plan.project.root,
        workload=plan.workload,
        name=f"task-{number:02d}",
        kind="ingredient",
        hyperparameters=hyperparameters,
        start=start.checkpoint,
        threads=experiment.run.threads,
        save_every_seconds=sweep.save_every_seconds,
        anchor=base.checkpoint if hyperparameters.anchor == "base" else None,
    )


def learn(plans: Sequence[Plan], make: Make) -> list[Model]:
    """Learn the tasks in order; return the base, and the model after each task."""
    models = [base_of(plans[0], make)]
    for number, plan in enumerate(plans, start=1):
        models.append(make(task_job(plan, number, models[-1], models[0]), plan))
    return models


def made_or_failed(job: ModelJob, made: Model | Failure) -> Model:
    """Return a model that was made.

    Raises:
        StageFailed: it was not; the tasks after it have nothing to start from.
    """
    if isinstance(made, Failure):
        raise StageFailed(f"sequence: {job.name} failed: {made.reason}")
    return made


def test_scores(
    root: Path, workloads: Sequence[WorkloadSpec], checkpoint: Checkpoint, device: str
) -> list[float]:
    """Return a model's mean score of the first metric on each task's test split.

    Runs in a worker process. Nothing is chosen by these scores.
    """
    scores = []
    for workload in workloads:
        predict_on_sets(root, workload, checkpoint, device, ["test"])
        values = cached_values(root, workload, checkpoint.digest, "test")
        scores.append(float(values.mean()))
    return scores


test_scores.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def sequence_manifest(
    plans: Sequence[Plan], models: Sequence[Model], scores: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """Return the content of results/sequence.json: the models, their scores, what is kept."""
    return {
        "tasks": [
            {"params": plan.project.params_file.name, **asdict(plan.workload)} for plan in plans
        ],
        "metric": plans[0].metric.removeprefix("val/"),
        "base": models[0].to_json(),
        "ingredients": [model.to_json() for model in models[1:]],
        "scores": [list(row) for row in scores],
        "kept": asdict(Kept.of(scores)),
        "files": {},
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
