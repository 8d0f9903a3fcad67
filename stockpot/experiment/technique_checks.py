"""Whether the techniques of all planned runs go together, checked before any of them starts."""

from __future__ import annotations

from stockpot.errors import InputError
from stockpot.experiment.plan import Plan
from stockpot.ingredients.finetuning.combinations import COMBINED, check_combination
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.points import plan_points


def check_techniques(plan: Plan) -> None:
    """Check the fine-tuning runs of a sweep; with `search: soup`, as if it were `sobol`.

    Raises:
        InputError: techniques of an ingredient exclude each other, or the workload's task does.
    """
    sweep = plan.experiment.sweep
    if sweep.size == 0 or not COMBINED & sweep.space.model_fields_set.union(*sweep.list):
        return
    search = "sobol" if sweep.search == "soup" else sweep.search
    space = sweep.space.distributions()
    points = plan_points(search, space, sweep.list, sweep.size, plan.experiment.seed)
    task = plan.workload.build().task
    for number, point in enumerate(points):
        try:
            check_combination(Hyperparameters.from_point(point), task)
        except InputError as error:
            raise InputError(f"sweep: ingredient-{number:02d}: {error}") from error
