"""The reference of a sweep: fine-tunings whose soup the ingredients are held near (SALSA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stockpot.config.sweep_reference import ReferenceSection
from stockpot.distributions.values import Constant
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.points import Point, plan_points
from stockpot.seeding import derive_seed
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.models import Model


@dataclass(frozen=True, slots=True)
class Reference:
    """The models of a reference.

    Attributes:
        fine_tuned: the fine-tunings, in order.
        soup: of them.
        start: what the ingredients start from.
    """

    fine_tuned: tuple[Model, ...]
    soup: Model
    start: Checkpoint

    @property
    def models(self) -> tuple[Model, ...]:
        """All its models."""
        return (*self.fine_tuned, self.soup)

    def near(self, jobs: Sequence[TrainingJob]) -> list[TrainingJob]:
        """Return fine-tuning runs of the sweep that start at `start`, near their anchors."""
        return [job.starting_at(self.start, self.soup.checkpoint) for job in jobs]


def reference_jobs(plan: Plan) -> list[TrainingJob]:
    """Return the fine-tunings of an experiment's reference; none if it has no reference."""
    section, sweep = plan.experiment.sweep.reference, plan.experiment.sweep
    if section is None:
        return []
    base = plan.base()
    return [
        TrainingJob(
            root=plan.project.root,
            workload=plan.workload,
            name=f"reference-{number:02d}",
            kind="ingredient",
            hyperparameters=Hyperparameters.from_point(point),
            start=base.checkpoint,
            threads=plan.experiment.run.threads,
            save_every_seconds=sweep.save_every_seconds,
        )
        for number, point in enumerate(reference_points(plan))
    ]


def reference_points(plan: Plan) -> list[Point]:
    """Return the hyperparameters of the fine-tunings of a reference; none if there is none."""
    section, sweep = plan.experiment.sweep.reference, plan.experiment.sweep
    if section is None:
        return []
    space = (section.space or sweep.space).distributions()
    if section.space is None:
        space["anchor"] = Constant("none")
    space.pop("seed", None)  # they differ in their seeds at least
    seed = derive_seed("reference", plan.experiment.seed) % 2**31
    return plan_points("sobol", space, (), section.size, seed)


def reference_soup_job(plan: Plan, fine_tuned: Sequence[Model]) -> SoupJob:
    """Return the job that makes the soup of the reference."""
    return first_soup_job(plan, fine_tuned, "reference", "reference", _section(plan).select)


def first_soup_job(
    plan: Plan, models: Sequence[Model], name: str, kind: str, select: str
) -> SoupJob:
    """Return the job of a soup that a sweep makes before its ingredients.

    Args:
        plan: the base is made.
        models: to choose from.
        name: of the soup.
        kind: of the soup.
        select: the selection.
    """
    return SoupJob(
        root=plan.project.root,
        workload=plan.workload,
        metric=plan.metric,
        seed=plan.experiment.seed,
        name=name,
        kind=kind,
        select=select,
        method="linear",
        options={},
        base=plan.base(),
        ingredients=tuple(models),
    )


def made_reference(plan: Plan, fine_tuned: Sequence[Model], soup: Model) -> Reference:
    """Return the reference of an experiment, all of whose models are made."""
    starts = {"first": fine_tuned[0], "soup": soup, "base": plan.base()}
    return Reference(tuple(fine_tuned), soup, starts[_section(plan).start].checkpoint)


def _section(plan: Plan) -> ReferenceSection:
    section = plan.experiment.sweep.reference
    assert section is not None, "there is no reference to make"
    return section
