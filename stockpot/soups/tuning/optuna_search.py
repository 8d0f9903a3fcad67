"""Search by Optuna, scored on val and its shifts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, WithJsonSchema

from stockpot.distributions.fields import value_field
from stockpot.soups.tuning.budget import Budget
from stockpot.soups.tuning.method_space import MethodSpace, check_spaces, record_of
from stockpot.soups.tuning.objectives import BEST_INGREDIENT, MINIMIZED, Scored, best_of, violations
from stockpot.soups.tuning.proposals import Proposals
from stockpot.soups.tuning.sampler_names import BUILT_IN_SAMPLERS
from stockpot.soups.tuning.search import Found, SearchContext
from stockpot.soups.tuning.tensor_groups import Per, groups_of
from stockpot.yaml_files import Section

if TYPE_CHECKING:
    SpaceValue = Any
else:
    SpaceValue = value_field()

_TRIALS = 60
_PLUGIN = r"^[\w.]+:\w+$"

Sampler: TypeAlias = Annotated[
    str,
    WithJsonSchema(
        {"anyOf": [{"enum": [*BUILT_IN_SAMPLERS]}, {"type": "string", "pattern": _PLUGIN}]}
    ),
]
_ChosenMethod = str | Annotated[list[str], Field(min_length=1)]
_NEVER_TUNED = ("concat", "weight_signatures")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptunaSearch:
    """Coefficients, and options of any merge method, tried by Optuna and scored on val.

    Raises:
        ValueError: options do not fit together.
    """

    method: Annotated[
        _ChosenMethod,
        Field(description="merge method, or module:function of your own; of a list the best"),
    ] = "linear"
    space: Annotated[
        Mapping[str, SpaceValue] | None,
        Field(
            description="options of the method, and `weight` for the coefficients (simplex or a "
            "distribution): a distribution to search, or a constant; null: the simplex, and the "
            "usual ranges of the method's options"
        ),
    ] = None
    per: Annotated[
        Per,
        Field(
            description="what has values of its own: the model; groups of layers by depth; or "
            "patterns of tensor names, with a group of all other tensors"
        ),
    ] = "model"
    objectives: Annotated[
        Sequence[str],
        Field(
            min_length=1,
            description="what is optimized: val, val_shift, loss (on val), sparsity, or a metric "
            "of the workload; several give a Pareto front",
        ),
    ] = ("val",)
    floor: Annotated[
        Mapping[str, float | Literal["best_ingredient"]] | None,
        Field(
            description="by objective, the value that the soup must reach (loss: not exceed): a "
            "number, or best_ingredient; null: none"
        ),
    ] = None
    sampler: Annotated[Sampler, Field(description="one of Optuna's, or module:Class")] = "tpe"
    trials: Annotated[
        int | None, Field(ge=1, description=f"number of candidates; null: {_TRIALS}, or as follows")
    ] = None
    seconds: Annotated[
        float | None, Field(gt=0, description="instead of trials: duration; not reproducible")
    ] = None
    evaluations: Annotated[
        int | None, Field(ge=1, description="instead of trials: number of different candidates")
    ] = None
    batch: Annotated[
        int, Field(ge=1, description="candidates that are proposed from the same earlier results")
    ] = 1

    def __post_init__(self) -> None:
        self._check_objectives()
        given = [n for n in ("trials", "seconds", "evaluations") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"must have one of trials, seconds and evaluations, got {given}")
        methods = self.methods
        if len({*methods}) < len(methods):
            raise ValueError(f"method must name each method once, got {[*methods]}")
        for method in methods:
            self._check_method(method)
        spaces = self.spaces
        check_spaces(spaces, self.space or {})
        self._check_sampler([*spaces.values()])
        least, most = self.num_models
        if most is not None and least > most:
            raise ValueError(
                f"method: must be methods of equal numbers of models, got {[*methods]}, some of "
                f"which merge at least {least}, and others at most {most}"
            )

    @property
    def methods(self) -> Sequence[str]:
        """The merge methods that are tried."""
        return [self.method] if isinstance(self.method, str) else self.method

    @property
    def spaces(self) -> dict[str, MethodSpace]:
        """The search space of each method."""
        return {method: MethodSpace.of(method, self.space) for method in self.methods}

    @property
    def num_models(self) -> tuple[int, int | None]:
        """The smallest and the largest number of ingredients; None for no limit."""
        limits = [record_of(method).num_models for method in self.methods if method != "linear"]
        most = min((most for _, most in limits if most is not None), default=None)
        least = max((least for least, _ in limits), default=1)
        return (least if most == 1 else max(2, least)), most

    def _check_objectives(self) -> None:
        if len({*self.objectives}) < len(self.objectives):
            raise ValueError(f"objectives must differ, got {[*self.objectives]}")
        if self.sampler == "cmaes" and len(self.objectives) > 1:
            number = "two" if len(self.objectives) == 2 else str(len(self.objectives))
            raise ValueError(
                f"sampler 'cmaes' takes one objective, got {number}; use 'nsga2' or 'tpe'"
            )

    def _check_method(self, method: str) -> None:
        if method == "linear":  # looking up the others imports torch, which takes a second
            return
        if method in _NEVER_TUNED or record_of(method).run_coefficients is not None:
            raise ValueError(
                f"method {method!r} cannot be tuned: it merges models with different roles, or "
                "checkpoints of a run; make it a soup"
            )
        if self.per == "model":
            return
        record = record_of(method)
        if record.side_information is not None:
            raise ValueError(
                f"per must be model for {method!r}, which needs {record.side_information} of the "
                f"whole model, got {_plain(self.per)}"
            )
        scope = (self.space or {}).get("scope", record.options.get("scope"))
        if scope not in (None, "tensor"):
            raise ValueError(f"per must be model where scope is that of {method!r}, {scope!r}")

    def _check_sampler(self, spaces: Sequence[MethodSpace]) -> None:
        if ":" in self.sampler or self.sampler not in BUILT_IN_SAMPLERS:
            from stockpot.soups.tuning.samplers import SAMPLERS

            SAMPLERS[self.sampler]  # imports the user's module
        if len(spaces) > 1 and self.sampler in ("gp", "cmaes", "nsga2", "nsga3", "qmc"):
            raise ValueError(
                f"sampler {self.sampler!r} cannot choose among methods, whose options differ; use "
                "'tpe' or 'random'"
            )
        is_number = [space.has_numbers_alone for space in spaces]
        if self.sampler == "cmaes" and not all(is_number):
            raise ValueError(
                "sampler 'cmaes' searches at least two numbers and no choices; use 'tpe' or 'gp'"
            )

    @property
    def study(self) -> dict[str, Any]:
        """The settings of the study; a search with more trials continues one with fewer."""
        own = {"method": self.method, "space": self.space, "per": self.per, "floor": self.floor}
        default = {"method": "linear", "space": None, "per": "model", "floor": None, "batch": 1}
        given = {n: _plain(v) for n, v in {**own, "batch": self.batch}.items() if v != default[n]}
        return {"objectives": [*self.objectives], "sampler": self.sampler, **given}

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests."""
        limits = {"trials": self.trials, "seconds": self.seconds, "evaluations": self.evaluations}
        given = {name: value for name, value in limits.items() if value is not None}
        limit = given or {"trials": _TRIALS}
        return {"search": "optuna", "method": "linear", **self.study, **limit}

    @property
    def _budget(self) -> Budget:
        is_limited = self.seconds is not None or self.evaluations is not None
        trials = self.trials or (None if is_limited else _TRIALS)
        return Budget(trials, self.seconds, self.evaluations)

    def find(self, context: SearchContext) -> Found:
        """Search on val, starting from the uniform, greedy and best single soup, and defaults."""
        from stockpot.soups.tuning.findings import importances, trial_details
        from stockpot.soups.tuning.study import StudyPlan, run_study

        groups = groups_of(self.per, context.tensor_names if self.per != "model" else ())
        proposals = Proposals(self.spaces, groups, len(context.names))
        floors = self._floors(context)
        names = [*dict.fromkeys((*self.objectives, *floors))]

        def scored(values: Sequence[float]) -> Scored:
            named = dict(zip(names, values, strict=True))
            own = tuple(named[name] for name in self.objectives)
            return Scored(own, violations(floors, named))

        plan = StudyPlan(
            name=context.name,
            journal=context.journal,
            directions=["minimize" if n in MINIMIZED else "maximize" for n in self.objectives],
            propose=proposals.propose,
            evaluate=lambda merges: map(scored, context.score_merges(merges, names)),
            starts=proposals.starts(context),
            sampler=self.sampler,
            seed=context.seed,
            batch=self.batch,
            is_conditional=proposals.is_conditional,
        )
        trials = run_study(plan, self._budget)
        best, front = best_of(trials, self.objectives, lambda trial: trial.scored)
        details: dict[str, Any] = {"order": [*context.names], "chosen": best.number}
        details["front"] = [trial_details(trial, context.names) for trial in front]
        if floors:
            is_met = best.scored.missed == 0
            details["floor"] = {"values": dict(floors), "is_met": is_met}
        details |= importances(plan, trials)
        merge = best.candidate
        return Found(
            merge.method,
            "model",
            {"model": merge.coefficients},
            [trial_details(trial) for trial in trials],
            details,
            merge.options,
            merge=None if merge.is_average else merge,
        )

    def _floors(self, context: SearchContext) -> dict[str, float]:
        """Return the floors as numbers."""
        from stockpot.soups.tuning.merge import Merge

        given = self.floor or {}
        of_best = [name for name, value in given.items() if value == BEST_INGREDIENT]
        known: dict[str, float] = {}
        if of_best:
            best = context.order[0]
            alone = Merge("linear", tuple(float(n == best) for n in range(len(context.names))))
            [values] = context.score_merges([alone], of_best)
            known = dict(zip(of_best, values, strict=True))
        return {name: known[name] if name in known else float(v) for name, v in given.items()}


def _plain(value: Any) -> Any:
    """Return a field of params.yaml as JSON."""
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
