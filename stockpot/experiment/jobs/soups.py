"""Making one soup: found in the store, or ingredients chosen by val scores and merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.preparation.options import method_modules
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.recipe import Recipe
    from stockpot.soups.selection.greedy import Step

# What was computed of ingredients, by position, for each of their tensors, by name.
SideInformation = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SoupJob:
    """One soup, as plain values that a worker process can be sent.

    Attributes:
        root: the project root.
        workload: whose val split guides the choice.
        name: what the soup is called.
        select: uniform, greedy, top_k or wise_ft.
        k: how many ingredients `top_k` takes; None for the others.
        method: the merge method.
        options: the method's own and its preparation's, by name.
        base: what the ingredients were fine-tuned from, for methods that use it.
        seed: of methods that draw random numbers.
        ingredients: what may go in, with val scores.
        metric: the val score that choices use, by its name in the scores.
    """

    root: Path
    workload: WorkloadSpec
    name: str
    select: str
    k: int | None
    method: str
    options: Mapping[str, int | float | bool | str]
    base: Model
    seed: int
    ingredients: tuple[Model, ...]
    metric: str

    @property
    def key(self) -> str:
        """The content key: equal jobs make equal soups."""
        return content_key(
            recipe=self.recipe,
            base=self.base.digest,
            seed=self.seed,
            # Names too: the record of a soup tells of its ingredients by name.
            ingredients=[[m.name, m.digest, dict(m.scores)] for m in self.ingredients],
            scoring=val_scores_key_parts(self.workload),
            code=code_key(*self.modules),
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that choose ingredients and merge them."""
        return (__name__, *method_modules(self.method), *self.workload.modules)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, as it stands in manifests."""
        recipe: dict[str, Any] = {"name": self.name, "select": self.select, "method": self.method}
        recipe |= {"options": dict(self.options)} if self.options else {}
        return recipe if self.k is None else recipe | {"k": self.k}

    def merging(self, members: Sequence[int], side: SideInformation) -> Recipe:
        """Return how these ingredients, by position, are merged, with what was prepared."""
        from stockpot.merging.recipe import Recipe
        from stockpot.soups.preparation.options import split_options

        # A sum of ones divided once is what greedy keeps; other methods may not divide.
        share = 1.0 if self.method == "linear" else 1 / len(members)
        return Recipe(
            self.method,
            (share,) * len(members),
            split_options(self.method, self.options)[1],
            self.seed,
            tuple(self.ingredients[member].digest for member in members),
            tuple(side[member] for member in members if member in side),
        )

    @property
    def uses_base(self) -> bool:
        """Whether the method is given the base."""
        from stockpot.merging.registry import METHODS

        return METHODS[self.method].takes_base

    def find(self) -> Model | None:
        """Return the soup if the store has it; without scores."""
        return Store(self.root).find("soup", self.key, self.name)


def make_soup(job: SoupJob, device: str) -> Model:
    """Make the soup of a job and score it on val; what the store has is not made again.

    Runs in a worker process.
    """
    from stockpot.scoring.val_scores import score_on_val

    with Store(job.root).lock(job.key):
        soup = job.find() or _make(job, device)
    return score_on_val(job.root, job.workload, soup, device)


def _make(job: SoupJob, device: str) -> Model:
    from stockpot.merging.engine import merge_files
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.storage.checkpoints import verify

    if job.select == "wise_ft":
        return _make_on_path(job, device)
    members = list(range(len(job.ingredients)))
    if job.select == "top_k":
        members = rank(job.ingredients, job.metric)[: job.k]
    side = _prepare(job, members, device)
    steps = _greedy_steps(job, side, device) if job.select == "greedy" else []
    if steps:
        members = [step.ingredient for step in steps if step.accepted]
    chosen = [job.ingredients[member] for member in members]
    paths = [verify(job.root, model.checkpoint) for model in chosen]
    base = verify(job.root, job.base.checkpoint)
    merged = merge_files(paths, job.merging(members, side), base if job.uses_base else None)
    merged = Recalibration(job.workload.build(), device)(merged, len(chosen) + job.uses_base)
    details = {
        "recipe": job.recipe,
        "coefficients": {model.name: 1 / len(chosen) for model in chosen},
        "inputs": {model.name: model.digest for model in chosen},
        "steps": _steps_json(steps, job),
    }
    return Store(job.root).save("soup", job.key, job.name, merged, details)


def _make_on_path(job: SoupJob, device: str) -> Model:
    """Make the best model on val between the base and any of the ingredients."""
    from stockpot.merging.engine import merge_states
    from stockpot.merging.methods.wise_ft import wise_ft
    from stockpot.merging.recipe import Recipe
    from stockpot.scoring.val_scores import ValScorer
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.soups.selection.on_paths import select_on_paths
    from stockpot.storage.checkpoints import load_tensors, verify

    scorer = ValScorer(job.workload.build(), device)
    base, *states = (
        {name: tensor.to(device) for name, tensor in load_tensors(path).items()}
        for path in (verify(job.root, model.checkpoint) for model in (job.base, *job.ingredients))
    )

    recalibrated = Recalibration(job.workload.build(), device)

    def merged(member: int, alpha: float) -> dict[str, Tensor]:
        recipe = Recipe.of(wise_ft, (1.0,), {"alpha": alpha})
        return recalibrated(merge_states([states[member]], recipe, base), 2)

    places = select_on_paths(
        rank(job.ingredients, job.metric), lambda *place: scorer.val(merged(*place))
    )
    best, chosen = places[0], job.ingredients[places[0].ingredient]
    details = {
        "recipe": job.recipe | {"options": {"alpha": best.alpha}},
        "coefficients": {chosen.name: best.alpha},
        "inputs": {chosen.name: chosen.digest},
        "steps": [],
        "paths": {
            model.name: {f"{p.alpha:g}": p.score for p in places if p.ingredient == number}
            for number, model in enumerate(job.ingredients)
        },
    }
    weights = merged(best.ingredient, best.alpha)
    return Store(job.root).save("soup", job.key, job.name, weights, details)


def _prepare(job: SoupJob, members: Sequence[int], device: str) -> SideInformation:
    """Return what the method takes of each of these ingredients; nothing, if it takes nothing."""
    from stockpot.soups.preparation.cache import prepare
    from stockpot.soups.preparation.options import split_options

    preparation, _ = split_options(job.method, job.options)
    if preparation is None:
        return {}
    return {
        member: prepare(
            job.root,
            job.workload,
            job.ingredients[member],
            preparation,
            seed=job.seed,
            device=device,
        )
        for member in members
    }


def _greedy_steps(job: SoupJob, side: SideInformation, device: str) -> list[Step]:
    """Choose ingredients greedily, each candidate scored on val."""
    from stockpot.merging.engine import merge_states
    from stockpot.merging.stack import IngredientStack
    from stockpot.scoring.val_scores import ValScorer
    from stockpot.soups.preparation.recalibration import Recalibration
    from stockpot.soups.selection.greedy import select_greedy
    from stockpot.storage.checkpoints import load_tensors, verify

    states = [load_tensors(verify(job.root, model.checkpoint)) for model in job.ingredients]
    scorer = ValScorer(job.workload.build(), device)
    recalibrated = Recalibration(job.workload.build(), device)
    order = rank(job.ingredients, job.metric)
    if job.method == "linear":
        stack = IngredientStack(states, device)
        return select_greedy(
            order, lambda m: scorer.val_values(recalibrated(stack.mean_of(m), len(m)))
        )
    base = load_tensors(verify(job.root, job.base.checkpoint)) if job.uses_base else None
    return select_greedy(
        order,
        lambda members: scorer.val_values(
            recalibrated(
                merge_states([states[m] for m in members], job.merging(members, side), base),
                len(members) + job.uses_base,
            )
        ),
    )


def _steps_json(steps: Sequence[Step], job: SoupJob) -> list[dict[str, Any]]:
    """Return the steps as they stand in manifests, each tested against the soup before it.

    The difference, its p and the examples won and lost are None for the first step, before which
    there is no soup.
    """
    content: list[dict[str, Any]] = []
    soup: Step | None = None
    for step in steps:
        decision = {
            "ingredient": job.ingredients[step.ingredient].name,
            "score": step.score,
            "accepted": step.accepted,
            "best": step.best,
        }
        content.append(decision | _against(soup, step, job.seed))
        soup = step if step.accepted else soup
    return content


def _against(soup: Step | None, candidate: Step, seed: int) -> dict[str, Any]:
    from stockpot.statistics.paired import paired_test

    if soup is None:
        undecided = dict.fromkeys(("difference", "p", "won", "lost"))
        return {**undecided, "n": len(candidate.values)}
    values, reference = candidate.values.cpu().numpy(), soup.values.cpu().numpy()
    tested = paired_test(values, reference, seed=seed)
    return {
        "difference": candidate.score - soup.score,
        "p": tested.p,
        "won": tested.won,
        "lost": tested.lost,
        "n": tested.n,
    }
