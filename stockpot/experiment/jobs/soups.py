"""One soup: its ingredients are chosen by val scores, then merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import ModelJob
from stockpot.experiment.jobs.selection_steps import tested_steps
from stockpot.experiment.provenance import Provenance
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.preparation.options import method_modules
from stockpot.soups.selection.candidates import Candidates, Paths, PathSelection, Selection
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.ranking import rank
from stockpot.storage.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.recipe import Recipe
    from stockpot.merging.stack import IngredientStack
    from stockpot.scoring.val_scores import ValScorer


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupJob(ModelJob):
    """One soup, as plain values that a worker process can be sent.

    Attributes:
        select: name of the selection; None: the ingredients are chosen, and all are merged.
        select_options: options of the selection, by name.
        method: the merge method; `wise_ft` for a selection on paths.
        options: options of the method and of its preparation, by name.
        base: the model that the ingredients were fine-tuned from, for methods that use it.
        seed: seed of methods that draw random numbers.
        ingredients: the ingredients to choose from, with val scores.
        metric: name of the val score that the selection uses.
    """

    kind: str = "soup"
    select: str | None
    select_options: Mapping[str, Any] = field(default_factory=dict)
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
            # Names too: the record of a soup refers to its ingredients by name.
            ingredients=[[m.name, m.digest, dict(m.scores)] for m in self.ingredients],
            scoring=val_scores_key_parts(self.workload),
            code=code_key(*self.modules),
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that choose ingredients and merge them."""
        selection = () if self.select is None else (SELECTIONS.module_of(self.select),)
        return (__name__, *selection, *method_modules(self.method), *self.workload.modules)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe in the form of manifests."""
        recipe: dict[str, Any] = {"name": self.name, "select": self.select, "method": self.method}
        recipe |= {"options": dict(self.options)} if self.options else {}
        return recipe | dict(self.select_options)

    @property
    def parents(self) -> Mapping[str, str]:
        """Content keys of all ingredients to choose from, by name."""
        return {model.name: model.key for model in self.ingredients}

    def work(self, device: str) -> Model:
        """Choose ingredients by their val scores, and merge them."""
        soups = _CandidateSoups(self, device)
        if self.select is None:
            return _save(self, soups, Selection(range(len(self.ingredients))))
        chosen = self._choose(soups.score, soups.score_on_path)
        if isinstance(chosen, PathSelection):
            return _save_point(self, device, chosen)
        return _save(self, soups, chosen)

    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to merge the soup again, without scoring soups again."""
        merged = tuple((each.name, each.checkpoint) for each in self._merged(model))
        base = self.base.checkpoint
        return Provenance(model, self.workload, seed=self.seed, base=base, ingredients=merged)

    def _merged(self, soup: Model) -> list[Model]:
        """Return the ingredients of the soup in the order of the merge."""
        details = soup.details
        accepted = [step["ingredient"] for step in details["steps"] if step["accepted"]]
        names = details.get("members") or accepted
        if len(details["inputs"]) == 1:
            names = list(details["inputs"])
        if not names:  # no soup was scored: the selection can run again at no cost
            chosen = self._choose(_no_scores, _no_scores)
            assert isinstance(chosen, Selection)
            return [self.ingredients[member] for member in chosen.members]
        by_name = {model.name: model for model in self.ingredients}
        return [by_name[name] for name in names]

    def _choose(
        self, score: Callable[[Sequence[int]], Tensor], score_on_path: Callable[[int, float], float]
    ) -> Selection | PathSelection:
        """Run the selection.

        Raises:
            InputError: a custom selection returns something other than ingredients.
        """
        assert self.select is not None, "there is nothing to choose"
        rule = SELECTIONS[self.select]
        order = rank(self.ingredients, self.metric)
        scores = [model.scores[self.metric] for model in self.ingredients]
        if rule.is_on_path:
            chosen = rule.choose(Paths(order, scores, score_on_path), **self.select_options)
        else:
            chosen = rule.choose(Candidates(order, scores, score), **self.select_options)
        if not isinstance(chosen, PathSelection if rule.is_on_path else Selection):
            expected = "PathSelection" if rule.is_on_path else "Selection"
            raise InputError(f"selection {self.select!r}: must return a {expected}, got {chosen!r}")
        members = chosen.members if isinstance(chosen, Selection) else [chosen.best.ingredient]
        if not members or not {*members} <= {*order} or len({*members}) < len(members):
            raise InputError(
                f"selection {self.select!r}: must choose at least one position below {len(order)}, "
                f"and each only once, got {[*members]}"
            )
        return chosen


def _no_scores(*_what: Any) -> Any:
    raise AssertionError("this selection needs no scores of soups")


def _save(job: SoupJob, soups: _CandidateSoups, selection: Selection) -> Model:
    """Merge the chosen ingredients and save the soup."""
    chosen = [job.ingredients[member] for member in selection.members]
    accepted = [step.ingredient for step in selection.steps if step.accepted]
    details = {
        "recipe": job.recipe,
        "coefficients": {model.name: 1 / len(chosen) for model in chosen},
        "inputs": {model.name: model.digest for model in chosen},
        "steps": tested_steps(selection.steps, [model.name for model in job.ingredients], job.seed),
    }
    is_custom = ":" in (job.select or "")  # it may choose others when it runs again
    if (soups.has_scored or is_custom) and accepted != list(selection.members):
        details["members"] = [model.name for model in chosen]
    weights = soups.merge_files(selection.members)
    return Store(job.root).save("soup", job.key, job.name, weights, details)


def _save_point(job: SoupJob, device: str, selection: PathSelection) -> Model:
    """Merge the base and an ingredient to a point on the path between them, and save the soup."""
    best, points = selection.best, selection.points or [selection.best]
    point = replace(job, options={"alpha": best.alpha})
    chosen = job.ingredients[best.ingredient]
    details = {
        "recipe": point.recipe,
        "coefficients": {chosen.name: best.alpha},
        "inputs": {chosen.name: chosen.digest},
        "steps": [],
        "paths": {
            model.name: {f"{p.alpha:g}": p.score for p in points if p.ingredient == number}
            for number, model in enumerate(job.ingredients)
        },
    }
    weights = _CandidateSoups(point, device).merge_files([best.ingredient])
    return Store(job.root).save("soup", job.key, job.name, weights, details)


class _CandidateSoups:
    """Merges soups of a job's ingredients, and scores them on val.

    Weights and val are loaded when the first soup is scored: not every selection scores soups.
    """

    def __init__(self, job: SoupJob, device: str) -> None:
        from stockpot.merging.registry import METHODS
        from stockpot.soups.preparation.recalibration import Recalibration

        self._job = job
        self._device = device
        self._uses_base = METHODS[job.method].takes_base
        self._recalibrated = Recalibration(job.workload.build(), device)
        self._prepared: dict[int, Mapping[str, Any]] = {}
        self.has_scored = False

    def score(self, members: Sequence[int]) -> Tensor:
        """Return the val values (N,) of the soup of these ingredients."""
        from stockpot.merging.engine import merge_states

        if self._stack is not None:
            weights = self._stack.mean_of(members)
        else:
            base = self._base if self._uses_base else None
            states = [self._states[member] for member in members]
            weights = merge_states(states, self._recipe(members), base)
        return self._scorer.val_values(self._recalibrated(weights, self._num_merged(members)))

    def score_on_path(self, ingredient: int, alpha: float) -> float:
        """Return the val score of a point between the base and an ingredient."""
        from stockpot.merging.engine import merge_states
        from stockpot.merging.methods.wise_ft import wise_ft
        from stockpot.merging.recipe import Recipe

        recipe = Recipe.of(wise_ft, (1.0,), {"alpha": alpha})
        base, state = self._on_device[-1], self._on_device[ingredient]
        return self._scorer.val(self._recalibrated(merge_states([state], recipe, base), 2))

    def merge_files(self, members: Sequence[int]) -> dict[str, Tensor]:
        """Merge ingredients tensor by tensor from their files; the same bits as in memory."""
        from stockpot.merging.engine import merge_files
        from stockpot.storage.checkpoints import verify

        job = self._job
        paths = [verify(job.root, job.ingredients[member].checkpoint) for member in members]
        base = verify(job.root, job.base.checkpoint)
        merged = merge_files(paths, self._recipe(members), base if self._uses_base else None)
        return self._recalibrated(merged, self._num_merged(members))

    def _recipe(self, members: Sequence[int]) -> Recipe:
        from stockpot.merging.recipe import Recipe
        from stockpot.soups.preparation.cache import prepare
        from stockpot.soups.preparation.options import split_options

        job = self._job
        preparation, options = split_options(job.method, job.options)
        for member in members:
            if preparation is not None and member not in self._prepared:
                model = job.ingredients[member]
                self._prepared[member] = prepare(
                    job.root, job.workload, model, preparation, seed=job.seed, device=self._device
                )
        # `IngredientStack` divides a sum once; equal bits need equal coefficients of 1 here.
        share = 1.0 if job.method == "linear" else 1 / len(members)
        return Recipe(
            job.method,
            (share,) * len(members),
            options,
            job.seed,
            tuple(job.ingredients[member].digest for member in members),
            tuple(self._prepared[member] for member in members if member in self._prepared),
        )

    def _num_merged(self, members: Sequence[int]) -> int:
        return len(members) + self._uses_base

    @cached_property
    def _scorer(self) -> ValScorer:
        from stockpot.scoring.val_scores import ValScorer

        self.has_scored = True
        return ValScorer(self._job.workload.build(), self._device)

    @cached_property
    def _states(self) -> list[dict[str, Tensor]]:
        return [self._load(model) for model in self._job.ingredients]

    @cached_property
    def _stack(self) -> IngredientStack | None:
        from stockpot.merging.stack import IngredientStack

        is_linear = self._job.method == "linear"
        return IngredientStack(self._states, self._device) if is_linear else None

    @cached_property
    def _base(self) -> dict[str, Tensor]:
        return self._load(self._job.base)

    @cached_property
    def _on_device(self) -> list[dict[str, Tensor]]:
        """The ingredients and, last, the base."""
        return [
            {name: tensor.to(self._device) for name, tensor in state.items()}
            for state in (*self._states, self._base)
        ]

    def _load(self, model: Model) -> dict[str, Tensor]:
        from stockpot.storage.checkpoints import load_tensors, verify

        return load_tensors(verify(self._job.root, model.checkpoint))
