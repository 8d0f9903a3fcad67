"""The plan of an experiment: params.yaml turned into jobs, before anything is run."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

from stockpot.config import Experiment, SoupRecipe
from stockpot.config.diagnose import chosen_diagnostics
from stockpot.distributions.values import Constant
from stockpot.errors import InputError
from stockpot.experiment.jobs.diagnosing import DiagnosticJob
from stockpot.experiment.jobs.imports import Imports
from stockpot.experiment.jobs.judging import Evaluation
from stockpot.experiment.jobs.prechecking import PrecheckJob
from stockpot.experiment.jobs.proposing import FIRST, ROUND, ProposalJob
from stockpot.experiment.jobs.rounds import RoundsJob, rounds_jobs
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.stages import MODEL_STAGES
from stockpot.ingredients.finetuning.hyperparameters import TECHNIQUES, Hyperparameters, Value
from stockpot.ingredients.finetuning.large_batches import adapted
from stockpot.ingredients.points import Point
from stockpot.seeding import derive_seed, phase_seed
from stockpot.storage.manifests import existing_manifests, models_of, read_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.storage.ranking import rank
from stockpot.workloads.spec import WorkloadSpec


class _Setting(TypedDict):
    """The arguments that all jobs after training have in common."""

    root: Path
    workload: WorkloadSpec
    metric: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """The jobs of an experiment.

    Jobs of a stage can be listed once the stages before it are done: they name models.
    """

    project: Project
    experiment: Experiment

    @cached_property
    def workload(self) -> WorkloadSpec:
        """The workload as plain values."""
        section = self.experiment.workload
        return WorkloadSpec(
            name=section.name,
            seed=self.experiment.seed,
            val_shifts=tuple(section.val_shifts),
            test_shifts=tuple(section.test_shifts),
            options=tuple(sorted(section.options.items())),
        )

    @cached_property
    def metric(self) -> str:
        """Name of the val score that selections and searches use."""
        return f"val/{next(iter(self.workload.build().metrics))}"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI: of params.yaml, else of the environment, else of the project."""
        named = self.experiment.track.uri or os.environ.get("MLFLOW_TRACKING_URI")
        return named or self.project.mlflow_uri

    def base_job(self) -> TrainingJob:
        """Return the job that pretrains the base."""
        seed = derive_seed("base", self.experiment.seed) % 2**31
        point = self.experiment.base.model_dump(exclude={"import_"})
        return self._training("base", "base", {**point, "seed": seed})

    @cached_property
    def imports(self) -> Mapping[str, Imports]:
        """Checkpoints that are imported instead of trained, by stage."""
        base, sweep = self.experiment.base, self.experiment.sweep
        root, path = self.project.root, base.import_
        return {
            "base": Imports(root, self.workload, "base", (path,) if path else (), "stop"),
            "sweep": Imports(root, self.workload, "ingredient", sweep.imports, sweep.on_foreign),
        }

    @cached_property
    def varied_techniques(self) -> dict[str, Value]:
        """Techniques that differ between ingredients, with their values where they are off."""
        sweep = self.experiment.sweep
        space = sweep.space.distributions()
        varied = {name for name, axis in space.items() if not isinstance(axis, Constant)}
        varied |= {name for point in sweep.list for name in point}
        return {name: value for name, value in TECHNIQUES.items() if name in varied}

    def ingredient_jobs(self) -> list[TrainingJob]:
        """Return the fine-tuning runs of the sweep; with `search: soup`, of its first round."""
        sweep, num_phases = self.experiment.sweep.final, len(self.experiment.sweep.phases)
        if sweep.size == 0:
            return []
        size = min(FIRST, sweep.size or 0) if sweep.search == "soup" else sweep.size
        points = sweep.points(phase_seed(self.experiment.seed, num_phases), size)
        return self.fine_tuning_jobs(points)

    def proposal_job(
        self, jobs: Sequence[TrainingJob], models: Sequence[Model | None]
    ) -> ProposalJob | None:
        """Return the job that proposes the next round; None if the sweep is complete.

        Args:
            jobs: all fine-tuning runs so far.
            models: their models; None for a run that failed.
        """
        sweep = self.experiment.sweep.final
        missing = (sweep.size or 0) - len(jobs)
        if sweep.search != "soup" or missing <= 0:
            return None
        return ProposalJob(
            **self._setting,
            space=sweep.space.distributions(),
            points=tuple(asdict(job.hyperparameters) for job in jobs),
            models=tuple(models),
            count=min(ROUND, missing),
        )

    def fine_tuning_jobs(self, points: Sequence[Point], first: int = 0) -> list[TrainingJob]:
        """Return the fine-tuning runs at these points, numbered from `first`."""
        base = self.base()
        return [
            self._training(f"ingredient-{number:02d}", "ingredient", point, base)
            for number, point in enumerate(points, start=first)
        ]

    def rounds_jobs(self) -> list[RoundsJob]:
        """Return the jobs of the ingredients that are made in rounds."""
        base = self.base().checkpoint
        return rounds_jobs(self.project.root, self.workload, self.experiment, base)

    def precheck_job(self, ingredients: Sequence[Model]) -> PrecheckJob:
        """Return the job that checks the ingredients of the sweep before they are merged."""
        return PrecheckJob(
            **self._setting,
            base=self.base(),
            ingredients=tuple(ingredients),
            **self.experiment.sweep.precheck.model_dump(),
        )

    def soup_jobs(self) -> list[SoupJob]:
        """Return the jobs that make the soups."""
        base, ingredients = self.base(), self.ingredients()
        return [
            SoupJob(
                **self._setting,
                name=recipe.name,
                select=recipe.select,
                select_options=recipe.settings,
                method=recipe.merge_method,
                options=recipe.merge_options,
                **recipe.merge_exceptions,
                base=base,
                ingredients=_matching(ingredients, recipe),
                threads=self.experiment.run.threads,
                save_every_seconds=self.experiment.sweep.save_every_seconds,
            )
            for recipe in self.experiment.soups
        ]

    def tuning_jobs(self) -> list[TuningJob]:
        """Return the jobs that search coefficients and make the tuned soups."""
        base, ingredients = self.base(), self.ingredients()
        best_first = [ingredients[p] for p in rank(ingredients, self.metric)]
        return [
            TuningJob(
                **self._setting,
                name=study.name,
                search=study.build(),
                base=base,
                ingredients=tuple(best_first[: study.top_k]),
                threads=self.experiment.run.threads,
            )
            for study in self.experiment.tune
        ]

    def base(self) -> Model:
        """Return the base; its stage is done."""
        return models_of(read_manifest(self.project.root, "base"))[0]

    def ingredients(self) -> tuple[Model, ...]:
        """Return the ingredients that soups may use; the sweep is done.

        Those that the check before merging has excluded are scored, but not merged.
        """
        manifest = read_manifest(self.project.root, "sweep")
        excluded = {entry["name"] for entry in manifest["precheck"]["excluded"]}
        return tuple(model for model in models_of(manifest) if model.name not in excluded)

    def models(self) -> tuple[Model, ...]:
        """Return all models that are evaluated, in the order of the table."""
        manifests = [read_manifest(self.project.root, stage) for stage in MODEL_STAGES]
        return tuple(model for manifest in manifests for model in models_of(manifest))

    def recorded_models(self, *stages: str) -> list[Model]:
        """Return the models of those stages that have run."""
        manifests = existing_manifests(self.project.root, stages)
        return [model for manifest in manifests for model in models_of(manifest)]

    def diagnostic_jobs(self) -> list[DiagnosticJob]:
        """Return the jobs of the diagnostics in params.yaml."""
        soups = tuple(m for m in self.models() if m.kind in ("soup", "tuned") and m.num_nets == 1)
        return [
            DiagnosticJob(
                **self._setting,
                name=name,
                options=options,
                base=self.base(),
                ingredients=self.ingredients(),
                soups=soups,
            )
            for name, options in chosen_diagnostics(self.experiment.diagnose).items()
        ]

    @property
    def diagnostics(self) -> list[str]:
        """Names of the diagnostics in params.yaml, in the order of the report."""
        return [*chosen_diagnostics(self.experiment.diagnose)]

    def evaluation(self) -> Evaluation:
        """Return the jobs of the evaluation, all of whose models are made."""
        return Evaluation(
            **self._setting,
            models=self.models(),
            allowed=self.ingredients(),
            section=self.experiment.evaluate,
        )

    @property
    def _setting(self) -> _Setting:
        return {
            "root": self.project.root,
            "workload": self.workload,
            "metric": self.metric,
            "seed": self.experiment.seed,
        }

    def _training(
        self, name: str, kind: str, point: Point, base: Model | None = None
    ) -> TrainingJob:
        hyperparameters = Hyperparameters.from_point(point)
        num_snapshots = self.experiment.sweep.snapshots if kind == "ingredient" else 0
        return TrainingJob(
            root=self.project.root,
            workload=self.workload,
            name=name,
            kind=kind,
            hyperparameters=hyperparameters,
            start=base.checkpoint if base else None,
            threads=self.experiment.run.threads,
            save_every_seconds=self.experiment.sweep.save_every_seconds,
            snapshots=_snapshot_epochs(adapted(hyperparameters).epochs, num_snapshots),
        )


def _snapshot_epochs(epochs: int, count: int) -> tuple[int, ...]:
    """Return the epochs after which weights are saved: evenly spaced, neither start nor end."""
    evenly = {round(epochs * number / (count + 1)) for number in range(1, count + 1)}
    return tuple(sorted(evenly - {0, epochs}))


def _matching(ingredients: Sequence[Model], recipe: SoupRecipe) -> tuple[Model, ...]:
    """Return the ingredients that match a recipe's patterns, all if it has none.

    Raises:
        InputError: a pattern matches no ingredient.
    """
    patterns = recipe.ingredients or ["*"]
    names = [model.name for model in ingredients]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise InputError(
                f"soup {recipe.name!r}: ingredients must be names or patterns, got "
                f"{pattern!r}, which matches none of {names}"
            )
    return tuple(
        model
        for model in ingredients
        if any(fnmatch.fnmatchcase(model.name, pattern) for pattern in patterns)
    )
