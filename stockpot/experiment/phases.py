"""The phases of a sweep: prune, retrain several times, average; again from the average.

Sparse model soups (Zimmer et al. 2024, https://arxiv.org/abs/2306.16788, algorithm 1). All models
of a phase start from one pruned model, so they and their average have one mask; with one model per
phase this is iterative magnitude pruning. The models of the last phase are the ingredients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.experiment.reference import first_soup_job
from stockpot.seeding import phase_seed
from stockpot.storage.models import Failure, Model


@dataclass(frozen=True, slots=True)
class Phase:
    """A finished phase before the last one.

    Attributes:
        models: the retrained ones, in order.
        average: of them, which the next phase starts from.
        failed: retrainings without a model.
    """

    models: tuple[Model, ...]
    average: Model
    failed: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Phases:
    """The phases of a sweep before its last one; none if it has one phase or no phases.

    Attributes:
        plan: the base is made.
        done: the finished phases, in order.
    """

    plan: Plan
    done: tuple[Phase, ...] = ()

    @property
    def name(self) -> str:
        """The name of the phase that comes next, which is that of its average."""
        return f"phase-{len(self.done) + 1}"

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The retrainings without a model, as in the sweep's manifest."""
        return [failure.to_json() for phase in self.done for failure in phase.failed]

    def next_jobs(self) -> list[TrainingJob]:
        """Return the retrainings of the next phase; none if only the last phase is left."""
        sweep, number = self.plan.experiment.sweep, len(self.done) + 1
        if number >= len(sweep.phases):
            return []
        own = sweep.in_phase(number)
        points = own.points(phase_seed(self.plan.experiment.seed, number), own.size)
        jobs = self.from_average(self.plan.fine_tuning_jobs(points))
        return [
            replace(job, name=f"{self.name}-{position:02d}", snapshots=())
            for position, job in enumerate(jobs)
        ]

    def average_job(self, models: Sequence[Model]) -> SoupJob:
        """Return the job that averages the models of the next phase."""
        return first_soup_job(self.plan, models, self.name, "phase", "uniform")

    def after(
        self, models: Sequence[Model], average: Model, failed: Sequence[Failure] = ()
    ) -> Phases:
        """Return the phases when the next one is finished."""
        return Phases(self.plan, (*self.done, Phase(tuple(models), average, tuple(failed))))

    def from_average(self, jobs: Sequence[TrainingJob]) -> list[TrainingJob]:
        """Return fine-tuning runs that start from the last average, which they prune further."""
        if not self.done:
            return [*jobs]
        return [job.starting_at(self.done[-1].average.checkpoint) for job in jobs]

    def recorded(self) -> dict[str, list[dict[str, Any]]]:
        """Return the entry of the phases in the sweep's manifest; nothing without any."""
        sections = self.plan.experiment.sweep.phases
        entries = [
            {
                "sparsity": section.sparsity,
                "models": [model.to_json() for model in phase.models],
                "average": phase.average.to_json(),
            }
            for section, phase in zip(sections, self.done, strict=False)
        ]
        return {"phases": entries} if entries else {}
