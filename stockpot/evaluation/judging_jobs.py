"""Judging as plain values that a worker process can be sent; imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from stockpot.atomic_files import write_text
from stockpot.evaluation.random_soups import RandomSoupsJob, measure_random_soups
from stockpot.evaluation.repeats_jobs import RepeatsJob, predict_repeats
from stockpot.evaluation.wise_ft import WiseFtJob, measure_wise_ft
from stockpot.models import Model
from stockpot.workloads.spec import WorkloadSpec

Granularity = Literal["coarse", "per_class"]
"""Whether a model has one weight in the stacked ensemble, or one a class."""


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """The predictions of one model.

    Attributes:
        root: the project root.
        workload: what the model is judged on.
        model: which model.
        sets: on what: `val`, `test`, `val_shift/<name>` or `test_shift/<name>`.
    """

    root: Path
    workload: WorkloadSpec
    model: Model
    sets: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.name


@dataclass(frozen=True, slots=True)
class JudgingJob:
    """The verdict on all models.

    Attributes:
        root: the project root.
        workload: what models are judged on.
        models: base, ingredients, soups and tuned soups, in the order of the table.
        bootstrap: number of resamples.
        confidence: of the intervals, in (0, 1).
        stack: whether the stacked ensemble has a weight a model, or a weight a model and class.
        alpha: share of conformal prediction sets that may miss, in (0, 1).
        excluded: names of ingredients that no soup may hold; they are in no ensemble either.
        random_soups: the pools of random soups that soups are compared with.
        wise_ft: the path from the base to the best soup; None where there is no soup.
    """

    root: Path
    workload: WorkloadSpec
    models: tuple[Model, ...]
    bootstrap: int
    confidence: float
    stack: Granularity = "coarse"
    alpha: float = 0.1
    excluded: tuple[str, ...] = ()
    random_soups: tuple[RandomSoupsJob, ...] = ()
    wise_ft: WiseFtJob | None = None


@dataclass(frozen=True, slots=True)
class CostJob:
    """The measurement of how long a prediction takes.

    Attributes:
        root: the project root.
        workload: whose model is run.
    """

    root: Path
    workload: WorkloadSpec


BaselineJob: TypeAlias = RandomSoupsJob | WiseFtJob | RepeatsJob
"""What models are compared with, beside each other: it needs passes of its own."""


def predict_model(job: PredictionJob, device: str) -> None:
    """Compute and keep a model's predictions; runs in a worker process."""
    from stockpot.evaluation.predictions import predict

    predict(job.root, job.workload, job.model.checkpoint, device, job.sets)


def measure_baseline(job: BaselineJob, device: str) -> None:
    """Measure a baseline, unless that is kept already; runs in a worker process."""
    match job:
        case RandomSoupsJob():
            measure_random_soups(job, device)
        case WiseFtJob():
            measure_wise_ft(job, device)
        case RepeatsJob():
            predict_repeats(job, device)


def judge_models(job: JudgingJob, device: str) -> dict[str, Any]:  # noqa: ARG001 (arrays only)
    """Compute all metrics from kept predictions; runs in a worker process."""
    from stockpot.evaluation.judge import judge

    return judge(job)


def measured_latency(root: Path) -> float | None:
    """Return the time of a prediction as it was last measured, in milliseconds; None if never."""
    kept = measured_cost_path(root)
    return json.loads(kept.read_text("utf-8"))["latency_ms"] if kept.is_file() else None


def measured_cost_path(root: Path) -> Path:
    """Return where the last measurement is kept; not in results/, as it is never twice the same."""
    return root / ".stockpot" / "measured_cost.json"


def measure_cost(job: CostJob, device: str) -> dict[str, Any]:
    """Measure the time of a prediction and keep it; runs in a worker process.

    The numbers differ from run to run, so they belong in no manifest.
    """
    from stockpot.evaluation.cost import measure_latency

    measured = measure_latency(job.workload.build(), device)
    text = json.dumps(measured, indent=2, sort_keys=True)
    write_text(measured_cost_path(job.root), text + "\n")
    return measured
