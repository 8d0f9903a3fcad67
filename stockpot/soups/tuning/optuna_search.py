"""Search by Optuna, scored on val and its shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from stockpot.soups.tuning.search import Found, SearchContext, trial_json

if TYPE_CHECKING:
    from stockpot.soups.tuning.study import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class OptunaSearch:
    """Coefficients tried one after another by Optuna, scored on val.

    Raises:
        ValueError: objectives repeat, or the sampler takes fewer of them.
    """

    objectives: Annotated[
        Sequence[Literal["val", "val_shift"]],
        Field(
            min_length=1, max_length=2, description="scores to maximize; two give a Pareto front"
        ),
    ] = ("val",)
    sampler: Literal["tpe", "gp", "cmaes", "nsga2", "random"] = "tpe"
    trials: Annotated[int, Field(ge=1, description="number of candidates")] = 60

    def __post_init__(self) -> None:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must differ, got {list(self.objectives)}")
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            raise ValueError("sampler 'cmaes' takes one objective, got two; use 'nsga2' or 'tpe'")

    @property
    def study(self) -> dict[str, Any]:
        """The settings of the study; a search with more trials continues one with fewer."""
        return {"objectives": list(self.objectives), "sampler": self.sampler}

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests."""
        return {"search": "optuna", "method": "linear", **self.study, "trials": self.trials}

    def find(self, context: SearchContext) -> Found:
        """Search on val and its shifts, starting from the uniform, greedy and best single soup."""
        from stockpot.soups.tuning.study import tune_coefficients

        found = tune_coefficients(
            context.journal,
            lambda coefficients: context.values(coefficients, self.objectives),
            _warm_starts(context),
            num_objectives=len(self.objectives),
            sampler=self.sampler,
            trials=self.trials,
            seed=context.seed,
        )
        trials = [trial_json(t.number, t.values, t.source) for t in found.trials]
        front = [_front_json(trial, context) for trial in found.front]
        rows = {"model": found.best.coefficients}
        return Found("linear", "model", rows, trials, {"front": front})


def _warm_starts(context: SearchContext) -> dict[str, list[float]]:
    """Return the uniform, greedy and best single soup as points of the unit box."""
    from stockpot.soups.selection.greedy import greedy_steps

    steps = greedy_steps(context.order, context.score_members)
    greedy = [step.ingredient for step in steps if step.accepted]
    positions = range(len(context.order))
    soups = {"uniform": positions, "greedy": greedy, "best single": context.order[:1]}
    return {name: [float(p in members) for p in positions] for name, members in soups.items()}


def _front_json(trial: Trial, context: SearchContext) -> dict[str, Any]:
    coefficients = zip(context.names, trial.coefficients, strict=True)
    return {
        "number": trial.number,
        "values": trial.values,
        "coefficients": {name: value for name, value in coefficients if value > 0},
    }
