"""Whether the techniques of all planned runs go together, checked before any of them starts."""

from __future__ import annotations

from stockpot.errors import InputError
from stockpot.experiment.plan import Plan
from stockpot.experiment.reference import reference_points
from stockpot.ingredients.finetuning.combinations import COMBINED, check_combination
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters


def check_techniques(plan: Plan) -> None:
    """Check the runs of a sweep and its reference; with `search: soup`, as if it were `sobol`.

    Raises:
        InputError: techniques of a run exclude each other, or the workload excludes one.
    """
    sweep = plan.experiment.sweep.final
    named = sweep.space.model_fields_set.union(*sweep.list)
    if sweep.reference and sweep.reference.space:
        named |= sweep.reference.space.model_fields_set
    if not COMBINED & named:
        return
    own = sweep.points(plan.experiment.seed, sweep.size) if sweep.size != 0 else ()
    workload = plan.workload.build()
    for kind, points in (("reference", reference_points(plan)), ("ingredient", own)):
        for number, point in enumerate(points):
            try:
                check_combination(Hyperparameters.from_point(point), workload)
            except InputError as error:
                raise InputError(f"sweep: {kind}-{number:02d}: {error}") from error
