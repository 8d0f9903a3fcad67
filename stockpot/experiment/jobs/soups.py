"""One soup: its ingredients are chosen by val scores, then merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import MergingJob
from stockpot.experiment.jobs.merges import Merges
from stockpot.experiment.jobs.selection_steps import tested_steps
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.concat.options import CONCAT, coefficients_of
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

    from stockpot.merging.masks import Masks
    from stockpot.merging.name_rules import NameRule
    from stockpot.merging.recipe import Recipe, RecipeOf
    from stockpot.merging.states import StateDict
    from stockpot.soups.concat.concatenate import WideNet


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupJob(MergingJob):
    """One soup, as plain values that a worker process can be sent.

    Attributes:
        select: name of the selection; None: the ingredients are chosen, and all are merged.
        select_options: options of the selection, by name.
        method: the merge method; `wise_ft` for a selection on paths.
        options: options of the method and of its preparation, by name.
        rules: for tensors that are merged in another way.
        masks: which weights may differ from 0, for ingredients of different masks.
    """

    kind: str = "soup"
    select: str | None
    select_options: Mapping[str, Any] = field(default_factory=dict)
    method: str
    options: Mapping[str, int | float | bool | str]
    rules: tuple[NameRule, ...] = ()
    masks: Masks | None = None

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
            code=code_key(
                *soup_modules(self.select, self.method, self.rules), *self.workload.modules
            ),
        )

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe in the form of manifests."""
        recipe: dict[str, Any] = {"name": self.name, "select": self.select, "method": self.method}
        recipe |= {"options": dict(self.options)} if self.options else {}
        recipe |= {"rules": [rule.to_json() for rule in self.rules]} if self.rules else {}
        recipe |= {"masks": self.masks} if self.masks else {}
        return recipe | dict(self.select_options)

    def work(self, device: str) -> Model:
        """Choose ingredients by their val scores, and merge them."""
        soups = _CandidateSoups(self, device)
        if self.select is None:
            return _save(self, soups, Selection(range(len(self.ingredients))))
        chosen = self._choose(soups.score, soups.score_on_path)
        if isinstance(chosen, PathSelection):
            return _save_point(self, device, chosen)
        return _save(self, soups, chosen)

    def merged(self, model: Model) -> list[Model]:
        """Return the ingredients of the soup in the order of the merge."""
        details = model.details
        accepted = [step["ingredient"] for step in details["steps"] if step["accepted"]]
        names = details.get("members") or accepted
        if len(details["inputs"]) == 1:
            names = list(details["inputs"])
        if not names:  # no soup was scored: the selection can run again at no cost
            chosen = self._choose(_no_scores, _no_scores)
            assert isinstance(chosen, Selection)
            return [self.ingredients[member] for member in chosen.members]
        by_name = {each.name: each for each in self.ingredients}
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


def soup_modules(
    select: str | None, method: str, rules: Sequence[NameRule] = ()
) -> tuple[str, ...]:
    """Return the modules that make a soup by a selection, a merge method and rules."""
    selection = () if select is None else (SELECTIONS.module_of(select),)
    others = {module for rule in rules if rule.method for module in method_modules(rule.method)}
    return (__name__, *selection, *method_modules(method), *sorted(others))


def _no_scores(*_what: Any) -> Any:
    raise AssertionError("this selection needs no scores of soups")


def _save(job: SoupJob, soups: _CandidateSoups, selection: Selection) -> Model:
    """Merge the chosen ingredients and save the soup."""
    names = [model.name for model in job.ingredients]
    members = list(selection.members)
    details: dict[str, Any] = {"steps": tested_steps(selection.steps, names, job.seed)}
    accepted = [step.ingredient for step in selection.steps if step.accepted]
    is_custom = ":" in (job.select or "")  # it may choose others when it runs again
    if (soups.has_scored or is_custom) and accepted != members:
        details["members"] = [names[member] for member in members]
    return soups.save(job.key, members, 1 / len(members), details)


def _save_point(job: SoupJob, device: str, selection: PathSelection) -> Model:
    """Merge the base and an ingredient to a point on the path between them, and save the soup."""
    best, points = selection.best, selection.points or [selection.best]
    paths = {
        model.name: {f"{p.alpha:g}": p.score for p in points if p.ingredient == number}
        for number, model in enumerate(job.ingredients)
    }
    soups = _CandidateSoups(replace(job, options={"alpha": best.alpha}), device)
    return soups.save(job.key, [best.ingredient], best.alpha, {"steps": [], "paths": paths})


class _CandidateSoups(Merges):
    """Merges soups of a job's ingredients, and scores them on val."""

    def __init__(self, job: SoupJob, device: str) -> None:
        from stockpot.merging.registry import METHODS

        super().__init__(job.root, job.workload, job.ingredients, device)
        self._job = job
        methods = [job.method, *(rule.method for rule in job.rules if rule.method)]
        self._uses_base = job.method != CONCAT and any(METHODS[m].takes_base for m in methods)
        self._prepared: dict[int, Mapping[str, Any]] = {}

    @property
    def has_scored(self) -> bool:
        """Whether the selection has scored soups."""
        return "scorer" in vars(self)

    def score(self, members: Sequence[int]) -> Tensor:
        """Return the val values (N,) of the soup of these ingredients."""
        from stockpot.merging.engine import merge_states

        if self._is_plain_mean(members):
            return self.score_members(members)
        if self._job.method == CONCAT:
            return self.scorer.val_values(self.moved(self._side_by_side(members).weights))
        base = self._base if self._uses_base else None
        states = [self.states[member] for member in members]
        weights = merge_states(states, self._recipes(members), base)
        return self.scorer.val_values(self.recalibrated(weights, self._num_merged(members)))

    def score_on_path(self, ingredient: int, alpha: float) -> float:
        """Return the val score of a point between the base and an ingredient."""
        from stockpot.merging.engine import merge_states
        from stockpot.merging.methods.wise_ft import wise_ft
        from stockpot.merging.recipe import Recipe

        recipe = Recipe.of(wise_ft, (1.0,), {"alpha": alpha})
        base, state = self._on_device[-1], self._on_device[ingredient]
        return self.scorer.val(self.recalibrated(merge_states([state], recipe, base), 2))

    def save(
        self, key: str, members: Sequence[int], share: float, details: Mapping[str, Any]
    ) -> Model:
        """Merge ingredients from their files, with the bits of a merge in memory; save the soup.

        Args:
            key: of the soup.
            members: positions of the ingredients, in the order of the merge.
            share: the coefficient of each of them.
            details: how they were chosen.
        """
        from stockpot.merging.engine import merge_files
        from stockpot.storage.checkpoints import verify

        job = self._job
        chosen = [job.ingredients[member] for member in members]
        made: dict[str, Any] = {
            "recipe": job.recipe,
            "coefficients": {model.name: share for model in chosen},
            "inputs": {model.name: model.digest for model in chosen},
        }
        if job.method == CONCAT:
            wide = self._side_by_side(members)
            weights, made = wide.weights, made | wide.described
        else:
            if masks := job.masks or self.agreed_masks(members):
                made |= {"masks": masks, "input_densities": {m.name: m.density for m in chosen}}
            paths = [verify(job.root, model.checkpoint) for model in chosen]
            base = verify(job.root, job.base.checkpoint)
            merged = merge_files(paths, self._recipes(members), base if self._uses_base else None)
            weights = self.recalibrated(merged, self._num_merged(members))
        return Store(job.root).save(job.kind, key, job.name, weights, made | dict(details))

    def _is_plain_mean(self, members: Sequence[int]) -> bool:
        """Whether a soup is the mean of its ingredients; if masks are not set, they must agree."""
        job = self._job
        if job.masks is None:
            self.agreed_masks(members)
        return job.method == "linear" and not job.rules and job.masks in (None, "none")

    def _recipes(self, members: Sequence[int]) -> Recipe | RecipeOf:
        from stockpot.merging.name_rules import by_name, check_matches

        if self._job.rules:
            check_matches(self._job.rules, self.states[members[0]])
        masks = self._job.masks or self.agreed_masks(members)
        recipe = replace(self._recipe(members), masks=masks)
        return by_name(recipe, self._job.rules)

    def _side_by_side(self, members: Sequence[int]) -> WideNet:
        from stockpot.soups.concat.concatenate import concatenate

        states = [self.states[member] for member in members]
        coefficients = coefficients_of(len(members), self._job.options)
        return concatenate(self.workload.build(), states, coefficients)

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
                    job.root, job.workload, model, preparation, seed=job.seed, device=self.device
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
    def _base(self) -> StateDict:
        return self.load(self._job.base)

    @cached_property
    def _on_device(self) -> list[StateDict]:
        """The ingredients and, last, the base."""
        return [self.moved(state) for state in (*self.states, self._base)]
