"""Making one tuned soup: found in the store, or its coefficients searched on val and merged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.keys import code_digest, content_key
from stockpot.models import Model
from stockpot.selection.ranking import rank
from stockpot.store import Store
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.evaluation.val_scores import ValScorer
    from stockpot.merging.stack import IngredientStack
    from stockpot.tuning.study import Trial, TunedCoefficients


@dataclass(frozen=True, slots=True)
class TuningJob:
    """One search for coefficients, as plain values that a worker process can be sent.

    Attributes:
        root: the project root.
        workload: whose val split and val shifts are the objectives.
        name: what the tuned soup is called.
        objectives: `val`, `val_shift` or both.
        sampler: Optuna's sampler, by name.
        trials: how many candidates, warm starts included.
        seed: of the sampler.
        ingredients: what is mixed, with val scores.
        metric: the val score that orders the ingredients, by its name in the scores.
    """

    root: Path
    workload: WorkloadSpec
    name: str
    objectives: tuple[str, ...]
    sampler: str
    trials: int
    seed: int
    ingredients: tuple[Model, ...]
    metric: str

    @property
    def key(self) -> str:
        """The content key: equal jobs make equal soups."""
        return content_key(study=self.study_key, trials=self.trials, name=self.name)

    @property
    def study_key(self) -> str:
        """Names the study: a search with more trials continues the one with fewer."""
        return content_key(
            objectives=self.objectives,
            sampler=self.sampler,
            seed=self.seed,
            ingredients=[[model.digest, dict(model.scores)] for model in self.ingredients],
            scoring=self.workload.scoring_inputs(),
            code=code_digest("merging", "selection", "tuning", "tuning_jobs.py", "seeding.py"),
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, as it stands in manifests."""
        return {
            "name": self.name,
            "method": "linear",
            "objectives": list(self.objectives),
            "sampler": self.sampler,
            "trials": self.trials,
        }

    def find(self) -> Model | None:
        """Return the tuned soup if the store has it; without scores."""
        return Store(self.root).find("tuned", self.key, self.name)


def tune(job: TuningJob, device: str) -> Model:
    """Make the tuned soup of a job and score it on val; what the store has is not made again.

    Runs in a worker process.
    """
    from stockpot.evaluation.val_scores import score_on_val

    with Store(job.root).lock(job.study_key):
        tuned = job.find() or _tune(job, device)
    return score_on_val(job.root, job.workload, tuned, device)


def _tune(job: TuningJob, device: str) -> Model:
    from stockpot.checkpoints import load_tensors, verify
    from stockpot.evaluation.val_scores import ValScorer
    from stockpot.merging.engine import merge_files
    from stockpot.merging.recipe import Recipe
    from stockpot.merging.stack import IngredientStack

    paths = [verify(job.root, model.checkpoint) for model in job.ingredients]
    stack = IngredientStack([load_tensors(path) for path in paths], device)
    found = _search(job, stack, ValScorer(job.workload.build(), device))
    used = [(p, c) for p, c in enumerate(found.best.coefficients) if c > 0]
    recipe = Recipe("linear", tuple(c for _, c in used))
    merged = merge_files([paths[p] for p, _ in used], recipe)
    details = {
        "recipe": job.recipe,
        "coefficients": {job.ingredients[p].name: c for p, c in used},
        "inputs": {job.ingredients[p].name: job.ingredients[p].digest for p, _ in used},
        "trials": [
            {"number": trial.number, "values": trial.values, "source": trial.source}
            for trial in found.trials
        ],
        "front": [_front_json(trial, job.ingredients) for trial in found.front],
    }
    return Store(job.root).save("tuned", job.key, job.name, merged, details)


def _search(job: TuningJob, stack: IngredientStack, scorer: ValScorer) -> TunedCoefficients:
    """Search coefficients on val, starting from the uniform, greedy and best single soup."""
    from stockpot.selection.greedy import select_greedy
    from stockpot.tuning.study import tune_coefficients

    objectives = {"val": scorer.val, "val_shift": scorer.val_shift}
    order = rank(job.ingredients, job.metric)
    steps = select_greedy(order, lambda members: scorer.val(stack.mean_of(members)))
    greedy = {step.ingredient for step in steps if step.accepted}
    positions = range(len(job.ingredients))
    return tune_coefficients(
        job.root / ".stockpot" / "studies" / f"{job.study_key}.log",
        lambda c: tuple(objectives[name](stack.merge(c)) for name in job.objectives),
        {
            "uniform": [1.0 for _ in positions],
            "greedy": [float(position in greedy) for position in positions],
            "best single": [float(position == order[0]) for position in positions],
        },
        num_objectives=len(job.objectives),
        sampler=job.sampler,
        trials=job.trials,
        seed=job.seed,
    )


def _front_json(trial: Trial, ingredients: tuple[Model, ...]) -> dict[str, Any]:
    coefficients = zip(ingredients, trial.coefficients, strict=True)
    return {
        "number": trial.number,
        "values": trial.values,
        "coefficients": {model.name: value for model, value in coefficients if value > 0},
    }
