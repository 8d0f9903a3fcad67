"""Merges of a job's ingredients by any method, in memory or from files, and their scores on val."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stockpot.experiment.jobs.merges import Merges
from stockpot.experiment.jobs.side_information import SideInformation
from stockpot.soups.preparation.options import split_options
from stockpot.soups.tuning.merge import Merge
from stockpot.storage.models import Model

if TYPE_CHECKING:
    from stockpot.merging.engine import StateMerger
    from stockpot.merging.recipe import Recipe, RecipeOf
    from stockpot.merging.states import StateDict


@dataclass
class MethodMerges(Merges):
    """Merges of all ingredients by any method, scored on val.

    Attributes:
        base: the model that the ingredients were fine-tuned from.
        seed: of random methods.
    """

    base: Model
    seed: int

    @property
    def tensor_names(self) -> list[str]:
        """Names of the tensors of the ingredients."""
        return [*self.states[0]]

    def score_merges(
        self, merges: Sequence[Merge], objectives: Sequence[str]
    ) -> Iterator[tuple[float, ...]]:
        """Score merges of all ingredients, lazily and in order, once per objective."""
        for merge in merges:
            yield self.scorer.objectives(self._weights(merge), objectives)

    def _weights(self, merge: Merge) -> StateDict:
        """Merge the ingredients in memory, and finish the weights as a soup is saved."""
        if merge.is_average:
            used = {place: one for place, one in enumerate(merge.coefficients) if one != 0}
            return self.finished(self.stack.merge(merge.coefficients, reuse=True), used)
        uses_base = self.uses_base(merge)
        merger = self._merger_with_base if uses_base else self._merger
        weights = self.moved(merger.merge(self._recipes(merge)))
        return self.finished(weights, dict(enumerate(merge.shares)), uses_base)

    def merged_files(self, merge: Merge) -> StateDict:
        """Merge the ingredients from their files, with the bits of a merge in memory."""
        from stockpot.merging.engine import merge_files
        from stockpot.storage.checkpoints import verify

        paths = [verify(self.root, model.checkpoint) for model in self.ingredients]
        base = verify(self.root, self.base.checkpoint) if self.uses_base(merge) else None
        return merge_files(paths, self._recipes(merge), base)

    def uses_base(self, merge: Merge) -> bool:
        """Whether the method takes the base."""
        from stockpot.merging.registry import METHODS

        return METHODS[merge.method].takes_base

    def needs_of(self, merge: Merge) -> dict[str, Any]:
        """Return what a merge needs besides the ingredients, for the record."""
        from stockpot.merging.registry import METHODS

        method = METHODS[merge.method]
        return {
            "uses_base": method.takes_base,
            "needs_data": method.side_information is not None,
            "is_random": method.is_random,
            "seed": self.seed,
        }

    def masks_of(self, merge: Merge) -> dict[str, Any]:
        """Return how masks of pruned ingredients are kept, for the record; nothing without any.

        Averages have the union of the masks by themselves; a base would fill it.
        """
        is_pruned = any(not model.is_dense for model in self.ingredients)
        return {"masks": "union"} if is_pruned and self.uses_base(merge) else {}

    def _recipes(self, merge: Merge) -> Recipe | RecipeOf:
        from stockpot.disk_merging.planning.depth_scaling import by_depth
        from stockpot.merging.name_rules import by_name
        from stockpot.merging.recipe import Recipe

        preparation, options = split_options(merge.method, merge.options)
        digests = tuple(model.digest for model in self.ingredients)
        recipe = Recipe(merge.method, merge.coefficients, options, self.seed, digests)
        if preparation is not None:
            every = range(len(self.ingredients))
            side = self._side_information.of(preparation, every, recipe)
            recipe = replace(recipe, side_information=side)
        recipe = replace(recipe, **self.masks_of(merge))
        return by_depth(by_name(recipe, merge.rules), self.states[0])

    @cached_property
    def _side_information(self) -> SideInformation:
        setting = (self.root, self.workload, self.ingredients)
        return SideInformation(*setting, self.base, self.seed, self.device)

    @cached_property
    def _merger(self) -> StateMerger:
        from stockpot.merging.engine import StateMerger

        return StateMerger(self.states)

    @cached_property
    def _merger_with_base(self) -> StateMerger:
        from stockpot.merging.engine import StateMerger

        return StateMerger(self.states, self.load(self.base))
