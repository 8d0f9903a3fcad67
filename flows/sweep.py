"""The sweep: many fine-tuned models from one base."""

from __future__ import annotations

from flows.phases import finish_phases
from flows.reference import make_reference, recorded
from flows.rounds import merge_in_rounds
from flows.stage import stage
from tasks.aligning import align_to_first
from tasks.checks import check_before_merging
from tasks.fan_out import side_by_side
from tasks.importing import import_checkpoints
from tasks.outputs import record_stage
from tasks.session import Session
from tasks.training import (
    enough_ingredients,
    next_ingredients,
    snapshots_of,
    train_model,
)


@stage("sweep")
def fine_tune_ingredients(session: Session) -> None:
    """Import ingredients, fine-tune one per point of the search space, and make some in rounds.

    The models of a reference and of all phases but the last come first. With `align`, imported
    ingredients are permuted to match the first one. With `search: soup`, the points of each round
    depend on the soup of those before. Ingredients that fail are recorded.
    """
    imports, imported, originals = align_to_first(*import_checkpoints("sweep"))

    reference, phases = make_reference(session), finish_phases(session)
    near = reference.near if reference else phases.from_average

    jobs = near(session.plan.ingredient_jobs())
    fine_tune = train_model.with_options(retries=session.plan.experiment.sweep.retries)
    outcomes = side_by_side(fine_tune, jobs, "sweep")
    while more := near(next_ingredients(jobs, outcomes)):
        jobs, outcomes = [*jobs, *more], [*outcomes, *side_by_side(fine_tune, more, "sweep")]
    if snapshots := snapshots_of(jobs, outcomes):
        outcomes = [*outcomes, *side_by_side(fine_tune, snapshots, "snapshots")]
        jobs = [*jobs, *snapshots]

    in_rounds, merged = merge_in_rounds(session)

    made = [*imported, *outcomes, *merged]
    ingredients, failed = enough_ingredients([*imports, *jobs, *in_rounds], made)
    precheck = check_before_merging(ingredients)
    record_stage(
        "sweep",
        {
            "ingredients": ingredients,
            "failed": [*failed, *phases.failed],
            "precheck": precheck,
            **originals,
            **recorded(reference),
            **phases.recorded(),
        },
    )
