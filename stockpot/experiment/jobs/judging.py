"""The jobs of the evaluation: predictions, baselines, and the manifest with all metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.config import EvaluateSection
from stockpot.experiment.jobs.job import ExperimentJob
from stockpot.judging.job import (
    BaselineJob,
    EvaluationJob,
    JudgingJob,
    PredictionJob,
    Repeats,
    RepeatsJob,
)
from stockpot.judging.random_soups import RandomSoupsJob, measure_random_soups, random_soups_jobs
from stockpot.judging.test_sets import open_set, predict_on_sets, test_sets
from stockpot.judging.wise_ft import WiseFtJob, measure_wise_ft, wise_ft_job
from stockpot.scoring.predictions import val_sets
from stockpot.storage.atomic_files import write_json
from stockpot.storage.models import Model
from stockpot.storage.ranking import best


@dataclass(frozen=True, kw_only=True)
class Evaluation(ExperimentJob):
    """The evaluation of an experiment, which consists of several jobs.

    Attributes:
        models: base, ingredients, soups and tuned soups, in the order of the table.
        allowed: the ingredients that soups may use.
        section: `evaluate` of params.yaml.
    """

    models: tuple[Model, ...]
    allowed: tuple[Model, ...]
    section: EvaluateSection

    def prediction_jobs(self) -> list[PredictionJob]:
        """Return one job per model that caches its predictions."""
        return [PredictionJob(self.root, self.workload, model, self._sets) for model in self.models]

    def baseline_jobs(self) -> list[BaselineJob]:
        """Return the baselines that need their own forward passes."""
        path = wise_ft_job(self.root, self.workload, self.models)
        return [*self._pools(), *([path] if path else []), *self._repeats()]

    def judging_job(self) -> JudgingJob:
        """Return the job that computes the evaluation manifest."""
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
            metrics=tuple(self.section.metrics),
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
        """Return the repeats of the best ingredient; [] if `evaluate.repeats.m` is 0."""
        repeats = Repeats(**self.section.repeats.model_dump())
        model = best(self._ingredients, self.metric)
        job = RepeatsJob(self.root, self.workload, model, self._sets, repeats, self.seed)
        return [job] if repeats.m else []


def predict_model(job: PredictionJob, device: str) -> None:
    """Compute and cache a model's predictions; runs in a worker process."""
    predict_on_sets(job.root, job.workload, job.model.checkpoint, device, job.sets)


def measure_baseline(job: BaselineJob, device: str) -> None:
    """Measure a baseline, unless its values are cached; runs in a worker process."""
    match job:
        case RandomSoupsJob():
            measure_random_soups(job, device)
        case WiseFtJob():
            measure_wise_ft(job, device)
        case RepeatsJob():
            predict_repeats(job, device)


def judge_models(job: JudgingJob, device: str) -> dict[str, Any]:  # noqa: ARG001 (arrays only)
    """Compute all metrics from cached predictions; runs in a worker process."""
    from stockpot.judging.judge import judge

    return judge(job)


def measured_latency(root: Path) -> float | None:
    """Return the last measured latency of a prediction in milliseconds; None if never measured."""
    path = measured_cost_path(root)
    return json.loads(path.read_text("utf-8"))["latency_ms"] if path.is_file() else None


def measured_cost_path(root: Path) -> Path:
    """Return the file of the last measurement; not in results/, since it is not reproducible."""
    return root / ".stockpot" / "measured_cost.json"


def measure_cost(job: EvaluationJob, device: str) -> dict[str, Any]:
    """Measure the latency of a prediction and store it; runs in a worker process."""
    from stockpot.judging.cost import measure_latency

    measured = measure_latency(job.workload.build(), device)
    write_json(measured_cost_path(job.root), measured)
    return measured


def predict_repeats(job: RepeatsJob, device: str) -> Model:
    """Compute and cache the averaged outputs; runs in a worker process.

    Returns:
        The entry whose digest the outputs are cached by.

    Raises:
        InputError: the source does not fit the model or the workload.
    """
    from stockpot.judging.repeats import repeated_outputs
    from stockpot.scoring.predictions import cache_outputs, has_outputs, load_model

    entry = job.entry
    missing = [
        name for name in job.sets if not has_outputs(job.root, job.workload, entry.digest, name)
    ]
    if missing:
        net = load_model(job.root, job.workload, job.model.checkpoint, device)
        workload = job.workload.build()
        for name in missing:
            examples = open_set(job.workload, name, device)
            outputs = repeated_outputs(workload, net, examples, job.repeats, (job.seed, name))
            cache_outputs(job.root, job.workload, entry.digest, name, outputs)
    return entry
