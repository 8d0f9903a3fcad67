"""Judging as plain values that a worker process can be sent; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    """

    root: Path
    workload: WorkloadSpec
    models: tuple[Model, ...]
    bootstrap: int
    confidence: float
    stack: Granularity = "coarse"
    alpha: float = 0.1
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CostJob:
    """The measurement of how long a prediction takes.

    Attributes:
        root: the project root.
        workload: whose model is run.
    """

    root: Path
    workload: WorkloadSpec


def predict_model(job: PredictionJob, device: str) -> None:
    """Compute and keep a model's predictions; runs in a worker process."""
    from stockpot.evaluation.predictions import predict

    predict(job.root, job.workload, job.model.checkpoint, device, job.sets)


def judge_models(job: JudgingJob, device: str) -> dict[str, Any]:  # noqa: ARG001 (arrays only)
    """Compute all metrics from kept predictions; runs in a worker process."""
    from stockpot.evaluation.judge import judge

    return judge(job)


def measure_cost(job: CostJob, device: str) -> dict[str, Any]:
    """Measure the time of a prediction and keep it; runs in a worker process.

    The numbers differ from run to run, so they belong in no manifest.
    """
    from stockpot.evaluation.cost import keep_measured_cost, measure_latency

    measured = measure_latency(job.workload.build(), device)
    keep_measured_cost(job.root, measured)
    return measured
