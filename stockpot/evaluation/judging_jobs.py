"""Judging as plain values that a worker process can be sent; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.models import Model
from stockpot.workloads.spec import WorkloadSpec


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """The predictions of one model.

    Attributes:
        root: the project root.
        workload: what the model is judged on.
        model: which model.
    """

    root: Path
    workload: WorkloadSpec
    model: Model

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
    """

    root: Path
    workload: WorkloadSpec
    models: tuple[Model, ...]
    bootstrap: int
    confidence: float


def predict_model(job: PredictionJob, device: str) -> Path:
    """Compute and keep a model's predictions; runs in a worker process."""
    from stockpot.evaluation.predictions import predict

    return predict(job.root, job.workload, job.model.checkpoint, device)


def judge_models(job: JudgingJob, device: str) -> dict[str, Any]:  # noqa: ARG001 (arrays only)
    """Compute all metrics from kept predictions; runs in a worker process."""
    from stockpot.evaluation.judge import judge

    return judge(job)
