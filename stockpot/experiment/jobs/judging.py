"""The jobs of the evaluation: predictions, baselines that need passes of their own, the verdict."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.config import EvaluateSection
from stockpot.judging.job import (
    BaselineJob,
    CostJob,
    JudgingJob,
    PredictionJob,
    Repeats,
    RepeatsJob,
)
from stockpot.judging.random_soups import RandomSoupsJob, measure_random_soups, random_soups_jobs
from stockpot.judging.test_sets import test_sets
from stockpot.judging.wise_ft import WiseFtJob, measure_wise_ft, wise_ft_job
from stockpot.scoring.predictions import val_sets
from stockpot.storage.atomic_files import write_text
from stockpot.storage.models import Model
from stockpot.storage.ranking import best
from stockpot.workloads.spec import WorkloadSpec


@dataclass(frozen=True)
class Judged:
    """What is judged, and how.

    Attributes:
        root: the project root.
        workload: what models are judged on.
        models: base, ingredients, soups and tuned soups, in the order of the table.
        allowed: the ingredients that may go into soups.
        metric: the val score that choices use, by its name in the scores.
        seed: the experiment's.
        section: how, as params.yaml says.
    """

    root: Path
    workload: WorkloadSpec
    models: tuple[Model, ...]
    allowed: tuple[Model, ...]
    metric: str
    seed: int
    section: EvaluateSection

    def prediction_jobs(self) -> list[PredictionJob]:
        """Return the predictions of all models."""
        return [PredictionJob(self.root, self.workload, model, self._sets) for model in self.models]

    def baseline_jobs(self) -> list[BaselineJob]:
        """Return what soups are compared with that needs passes of its own."""
        path = wise_ft_job(self.root, self.workload, self.models)
        return [*self._pools(), *([path] if path else []), *self._repeats()]

    def judging_job(self) -> JudgingJob:
        """Return the verdict on all models."""
        allowed = {model.name for model in self.allowed}
        return JudgingJob(
            root=self.root,
            workload=self.workload,
            models=(*self.models, *(job.entry for job in self._repeats())),
            bootstrap=self.section.bootstrap,
            confidence=self.section.confidence,
            stack=self.section.stack,
            alpha=self.section.conformal_alpha,
            excluded=tuple(m.name for m in self._ingredients if m.name not in allowed),
            random_soups=tuple(self._pools()),
            wise_ft=wise_ft_job(self.root, self.workload, self.models),
        )

    @property
    def _sets(self) -> tuple[str, ...]:
        return (*val_sets(self.workload), *test_sets(self.workload))

    @property
    def _ingredients(self) -> list[Model]:
        return [model for model in self.models if model.kind == "ingredient"]

    def _pools(self) -> list[RandomSoupsJob]:
        soups = [model for model in self.models if model.kind in ("soup", "tuned")]
        draws = self.section.random_soups
        return random_soups_jobs(
            self.root, self.workload, self.allowed, soups, draws=draws, seed=self.seed
        )

    def _repeats(self) -> list[RepeatsJob]:
        """Return the repeats of the best ingredient, if they are asked for."""
        repeats = Repeats(**self.section.repeats.model_dump())
        model = best(self._ingredients, self.metric)
        job = RepeatsJob(self.root, self.workload, model, repeats, self.seed, self._sets)
        return [job] if repeats.m else []


def predict_model(job: PredictionJob, device: str) -> None:
    """Compute and keep a model's predictions; runs in a worker process."""
    from stockpot.scoring.predictions import predict

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
    from stockpot.judging.judge import judge

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
    from stockpot.judging.cost import measure_latency

    measured = measure_latency(job.workload.build(), device)
    text = json.dumps(measured, indent=2, sort_keys=True)
    write_text(measured_cost_path(job.root), text + "\n")
    return measured


def predict_repeats(job: RepeatsJob, device: str) -> Model:
    """Make and keep the averaged outputs, and return who made them; runs in a worker process.

    Raises:
        InputError: the source does not fit the model or the workload.
    """
    from stockpot.judging.repeats import repeated_outputs
    from stockpot.scoring.predictions import has_outputs, keep_outputs, load_model, open_set

    entry = job.entry
    missing = [
        name for name in job.sets if not has_outputs(job.root, job.workload, entry.digest, name)
    ]
    if missing:
        net = load_model(job.root, job.workload, job.model.checkpoint, device)
        workload = job.workload.build()
        for name in missing:
            examples = open_set(job.workload, name, device)
            made = repeated_outputs(workload, net, examples, job.repeats, (job.seed, name))
            keep_outputs(job.root, job.workload, entry.digest, name, made)
    return entry
