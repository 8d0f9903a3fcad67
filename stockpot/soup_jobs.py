"""Making one soup: found in the store, or ingredients chosen by val scores and merged."""

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
    from stockpot.selection.greedy import Step


@dataclass(frozen=True, slots=True)
class SoupJob:
    """One soup, as plain values that a worker process can be sent.

    Attributes:
        root: the project root.
        workload: whose val split guides the choice.
        name: what the soup is called.
        select: uniform, greedy or top_k.
        k: how many ingredients `top_k` takes; None for the others.
        method: the merge method.
        ingredients: what may go in, with val scores.
        metric: the val score that choices use, by its name in the scores.
    """

    root: Path
    workload: WorkloadSpec
    name: str
    select: str
    k: int | None
    method: str
    ingredients: tuple[Model, ...]
    metric: str

    @property
    def key(self) -> str:
        """The content key: equal jobs make equal soups."""
        return content_key(
            recipe=self.recipe,
            ingredients=[[model.digest, dict(model.scores)] for model in self.ingredients],
            scoring=self.workload.scoring_inputs(),
            code=code_digest("merging", "selection", "soup_jobs.py", "seeding.py"),
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, as it stands in manifests."""
        recipe = {"name": self.name, "select": self.select, "method": self.method}
        return recipe if self.k is None else recipe | {"k": self.k}

    def find(self) -> Model | None:
        """Return the soup if the store has it; without scores."""
        return Store(self.root).find("soup", self.key, self.name)


def make_soup(job: SoupJob, device: str) -> Model:
    """Make the soup of a job and score it on val; what the store has is not made again.

    Runs in a worker process.
    """
    from stockpot.evaluation.val_scores import score_on_val

    with Store(job.root).lock(job.key):
        soup = job.find() or _make(job, device)
    return score_on_val(job.root, job.workload, soup, device)


def _make(job: SoupJob, device: str) -> Model:
    from stockpot.checkpoints import verify
    from stockpot.merging.engine import merge_files

    steps = _greedy_steps(job, device) if job.select == "greedy" else []
    match job.select:
        case "uniform":
            members = list(range(len(job.ingredients)))
        case "top_k":
            members = rank(job.ingredients, job.metric)[: job.k]
        case _:
            members = [step.ingredient for step in steps if step.accepted]
    chosen = [job.ingredients[member] for member in members]
    paths = [verify(job.root, model.checkpoint) for model in chosen]
    merged = merge_files(paths, [1.0] * len(paths), job.method)
    details = {
        "recipe": job.recipe,
        "coefficients": {model.name: 1 / len(chosen) for model in chosen},
        "inputs": {model.name: model.digest for model in chosen},
        "steps": [_step_json(step, job.ingredients) for step in steps],
    }
    return Store(job.root).save("soup", job.key, job.name, merged, details)


def _greedy_steps(job: SoupJob, device: str) -> list[Step]:
    """Choose ingredients greedily, each candidate scored on val."""
    from stockpot.checkpoints import load_tensors, verify
    from stockpot.evaluation.val_scores import ValScorer
    from stockpot.merging.stack import IngredientStack
    from stockpot.selection.greedy import select_greedy

    states = [load_tensors(verify(job.root, model.checkpoint)) for model in job.ingredients]
    stack = IngredientStack(states, device)
    scorer = ValScorer(job.workload.build(), device)
    return select_greedy(
        rank(job.ingredients, job.metric), lambda members: scorer.val(stack.mean_of(members))
    )


def _step_json(step: Step, ingredients: tuple[Model, ...]) -> dict[str, Any]:
    return {
        "ingredient": ingredients[step.ingredient].name,
        "score": step.score,
        "accepted": step.accepted,
        "best": step.best,
    }
