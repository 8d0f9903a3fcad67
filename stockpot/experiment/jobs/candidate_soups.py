"""The soups among which a selection chooses: merged, scored on val, and saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.experiment.jobs.merges import Merges
from stockpot.experiment.jobs.method_job import MethodJob
from stockpot.experiment.jobs.soup_recipes import SoupRecipes
from stockpot.merging.signature_layers import SIGNATURES
from stockpot.plugins import Registry
from stockpot.soups.concat.options import CONCAT, coefficients_of, is_trained
from stockpot.soups.selection.candidates import Blocks
from stockpot.storage.models import Model
from stockpot.storage.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.engine import StateMerger
    from stockpot.merging.recipe import Recipe, RecipeOf
    from stockpot.merging.states import State, StateDict
    from stockpot.soups.concat.concatenate import WideNet
    from stockpot.statistics.values import Floats

# By name, not imported: the training is part of the keys only of the soups that it makes.
GROWTH: Registry[Any] = Registry("growth", {"train": "stockpot.experiment.jobs.growing:Growth"})
BY_CORRUPTION: Registry[Any] = Registry(
    "merge by corruption",
    {"merge": "stockpot.experiment.jobs.signature_soups:merge_by_corruption"},
)
CORES: Registry[Any] = Registry(
    "core space", {"merge": "stockpot.experiment.jobs.core_soups:merge_in_core_space"}
)
OWN_TRAINING: Registry[Any] = Registry(
    "own training", {"gradients": "stockpot.experiment.jobs.own_training:gradient_similarities"}
)


class CandidateSoups(Merges):
    """Merges soups of a job's ingredients, and scores them on val."""

    def __init__(self, job: MethodJob, device: str) -> None:
        from stockpot.merging.registry import METHODS

        super().__init__(job.root, job.workload, job.ingredients, device)
        self._job = job
        methods = [job.method, *(rule.method for rule in job.rules if rule.method)]
        self._uses_base = job.core_space or (
            job.method != CONCAT and any(METHODS[m].takes_base for m in methods)
        )
        self._soup_recipes = SoupRecipes(job, device)

    @property
    def has_scored(self) -> bool:
        """Whether the selection has scored soups."""
        return "scorer" in vars(self)

    def score(self, members: Sequence[int], shares: Sequence[float] = ()) -> Tensor:
        """Return the val values (N,) of the soup of these ingredients.

        Args:
            members: positions of the ingredients.
            shares: their coefficients; equal ones by default.
        """
        return self.scorer.val_values(self._candidate(members, shares))

    def blocks(
        self, is_random: bool, *, in_order: Callable[[Sequence[int]], Sequence[int]]
    ) -> Blocks:
        """Return how soups are scored on val in blocks; the metric has a range of values.

        Args:
            is_random: whether examples are in random order; otherwise, the hardest come first.
            in_order: sorts the ingredients of a soup for the merge.
        """

        def merge(members: Sequence[int], shares: Sequence[float]) -> StateDict:
            return self._candidate(members if shares else in_order(members), shares)

        return self.blocks_of(merge, self._job.seed if is_random else None)

    def _candidate(self, members: Sequence[int], shares: Sequence[float] = ()) -> StateDict:
        """Merge ingredients to the weights that the saved soup has, on the device."""
        if self._job.method == CONCAT:
            return self.moved(self._side_by_side(members).weights)
        if self._is_plain_mean(members) and not shares:
            return self.mean_of(members)
        if self._job.core_space:
            weights = self._in_core_space(members, shares)
        else:
            weights = self._merger.merge(self._recipes(members, shares), members)
        return self._finished(self.moved(weights), _by_member(members, shares))

    def score_on_path(self, ingredient: int, alpha: float) -> float:
        """Return the val score of a point between the base and an ingredient."""
        from stockpot.merging.engine import merge_states
        from stockpot.merging.methods.wise_ft import wise_ft
        from stockpot.merging.recipe import Recipe

        recipe = Recipe.of(wise_ft, (1.0,), {"alpha": alpha})
        base, state = self._on_device[-1], self._on_device[ingredient]
        weights = merge_states([state], recipe, base)
        return self.scorer.val(self.finished(weights, {ingredient: alpha}, with_base=True))

    def inner_products(self) -> Floats:
        """Return the inner products (K, K) of the ingredients' task vectors."""
        from stockpot.merging.methods.inner_products import task_vector_gram

        products: Floats = task_vector_gram(self.states, self._base).numpy()
        return products

    def save(
        self,
        key: str,
        members: Sequence[int],
        share: float | Sequence[float],
        details: Mapping[str, Any],
    ) -> Model:
        """Merge ingredients from their files, with the bits of a merge in memory; save the soup.

        Args:
            key: of the soup.
            members: positions of the ingredients, in the order of the merge.
            share: their coefficient, or that of each.
            details: how they were chosen.
        """
        from stockpot.merging.registry import METHODS

        job = self._job
        chosen = [job.ingredients[member] for member in members]
        given: Sequence[float] = () if isinstance(share, float) else share
        shares = [share] * len(chosen) if isinstance(share, float) else [*share]
        if job.method == CONCAT:
            shares = coefficients_of(len(chosen), job.options)
        else:
            shares = METHODS[job.method].shares(shares, job.options)
        made: dict[str, Any] = {
            "recipe": job.recipe,
            "coefficients": {m.name: one for m, one in zip(chosen, shares, strict=True)},
            "inputs": {model.name: model.digest for model in chosen},
        }
        if job.method == CONCAT:
            wide, steps = self._grown(members, key)
            weights, made = wide.weights, made | wide.described | steps
        else:
            if masks := job.masks or self.agreed_masks(members):
                made |= {"masks": masks, "input_densities": {m.name: m.density for m in chosen}}
            if job.method == SIGNATURES:
                merged, signed = self._with_signatures(members)
                made |= signed
            else:
                merged = self._merged_files(members, given)
            weights = self._finished(merged, _by_member(members, given))
            made |= self.repair_details(_by_member(members, given), self._uses_base)
        model = Store(job.root).save(job.kind, key, job.name, weights, made | dict(details))
        _delete_partial(self.root, key)
        return model

    def _with_signatures(self, members: Sequence[int]) -> tuple[StateDict, dict[str, Any]]:
        """Return the clean soup with the signatures of corruptions, and how it was made."""
        job = self._job
        chosen = [job.ingredients[member] for member in members]
        corruptions = {model.name: job.corruption_of(model) for model in chosen}
        weights, names = BY_CORRUPTION["merge"](
            self.workload.build(),
            [self.states[member] for member in members],
            [*corruptions.values()],
            self._base,
            job.options,
            job.masks or self.agreed_masks(members),
        )
        sizes = Counter(corruptions.values())
        factor = job.options.get("scale", 1.0) * (-1 if job.options.get("remove") else 1)
        of_corrupted = float(factor) / (len(sizes) - 1)
        shares = {
            name: (1.0 if corruption == "none" else of_corrupted) / sizes[corruption]
            for name, corruption in corruptions.items()
        }
        return weights, {"coefficients": shares, "corruptions": corruptions, "signatures": names}

    def _merged_files(self, members: Sequence[int], shares: Sequence[float]) -> StateDict:
        from stockpot.merging.engine import merge_files
        from stockpot.storage.checkpoints import verify

        job = self._job
        if job.core_space:
            return self._in_core_space(members, shares)
        paths = [verify(job.root, job.ingredients[member].checkpoint) for member in members]
        base = verify(job.root, job.base.checkpoint) if self._uses_base else None
        return merge_files(paths, self._recipes(members, shares), base)

    def _in_core_space(self, members: Sequence[int], shares: Sequence[float]) -> StateDict:
        chosen = [self._job.ingredients[member] for member in members]
        recipes = self._recipes(members, shares)
        merged: StateDict = CORES["merge"](self.root, chosen, self._base, recipes)
        return merged

    def _is_plain_mean(self, members: Sequence[int]) -> bool:
        """Whether a soup is the mean of its ingredients; if masks are not set, they must agree."""
        job = self._job
        if job.masks is None:
            self.agreed_masks(members)
        is_plain = job.method == "linear" and not job.rules and not job.core_space
        return is_plain and job.masks in (None, "none")

    def _recipes(self, members: Sequence[int], shares: Sequence[float]) -> Recipe | RecipeOf:
        from stockpot.disk_merging.planning.depth_scaling import by_depth
        from stockpot.merging.name_rules import by_name, check_matches

        if self._job.rules:
            check_matches(self._job.rules, self.states[members[0]])
        masks = self._job.masks or self.agreed_masks(members)
        recipe = replace(self._soup_recipes.recipe(members, shares), masks=masks)
        return by_depth(by_name(recipe, self._job.rules), self.states[members[0]])

    def _grown(self, members: Sequence[int], key: str) -> tuple[WideNet, dict[str, Any]]:
        """Return the nets side by side, after training, and the steps of boosting."""
        options = self._job.options
        if not is_trained(options):
            return self._side_by_side(members), {}
        setting = (self.workload.build(), _partial_folder(self.root), key, self._job.seed)
        chosen = [self.ingredients[member] for member in members]
        growth = GROWTH["train"](
            *setting,
            self.device,
            options,
            self._job.save_every_seconds,
            [model.name for model in chosen if not model.is_dense],
        )
        states = [self.states[member] for member in members]
        coefficients = coefficients_of(len(members), options)
        if not options.get("stages"):
            return growth.grow(states, coefficients), {}
        boosted = growth.boost(states, coefficients, self._base)
        return boosted.wide, {"boosting": boosted.steps}

    def _side_by_side(self, members: Sequence[int]) -> WideNet:
        from stockpot.soups.concat.concatenate import concatenate

        states = [self.states[member] for member in members]
        coefficients = coefficients_of(len(members), self._job.options)
        return concatenate(self.workload.build(), states, coefficients)

    def _finished(self, weights: State, shares: Mapping[int, float]) -> StateDict:
        return self.finished(weights, shares, self._uses_base)

    @cached_property
    def _merger(self) -> StateMerger:
        from stockpot.merging.engine import StateMerger

        return StateMerger(self.states, self._base if self._uses_base else None)

    @cached_property
    def _base(self) -> StateDict:
        return self.load(self._job.base)

    @cached_property
    def _on_device(self) -> list[StateDict]:
        """The ingredients and, last, the base."""
        return [self.moved(state) for state in (*self.states, self._base)]


def _by_member(members: Sequence[int], shares: Sequence[float]) -> dict[int, float]:
    """Return the coefficients of some ingredients; equal ones if none are given."""
    return dict(zip(members, shares or [1.0] * len(members), strict=True))


def _delete_partial(root: Path, key: str) -> None:
    """Delete the unfinished training of a soup, which is finished."""
    for finished in _partial_folder(root).glob(f"{key}-*"):
        finished.unlink()


def _partial_folder(root: Path) -> Path:
    """Return the folder of unfinished training, and of what soups have trained."""
    return root / ".stockpot" / "partial"
