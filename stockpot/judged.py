"""The jobs of the evaluation: predictions, baselines that need passes of their own, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stockpot.config import EvaluateSection
from stockpot.evaluation.judging_jobs import BaselineJob, JudgingJob, PredictionJob
from stockpot.evaluation.predictions import test_sets, val_sets
from stockpot.evaluation.random_soups import RandomSoupsJob, random_soups_jobs
from stockpot.evaluation.repeats_jobs import Repeats, RepeatsJob
from stockpot.evaluation.wise_ft import wise_ft_job
from stockpot.models import Model
from stockpot.selection.ranking import rank
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
        best = self._ingredients[rank(self._ingredients, self.metric)[0]]
        job = RepeatsJob(self.root, self.workload, best, repeats, self.seed, self._sets)
        return [job] if repeats.m else []
