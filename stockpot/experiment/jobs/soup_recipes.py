"""The recipes of soups, with what their methods need to know about the ingredients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from stockpot.experiment.jobs.side_information import SideInformation

if TYPE_CHECKING:
    from stockpot.experiment.jobs.method_job import MethodJob
    from stockpot.merging.recipe import Recipe


@dataclass(frozen=True)
class SoupRecipes:
    """Recipes of soups of a job's ingredients.

    Attributes:
        job: the job.
        device: where ingredients are prepared.
    """

    job: MethodJob
    device: str

    def recipe(self, members: Sequence[int], shares: Sequence[float]) -> Recipe:
        """Return the recipe of a soup, by the method of the job.

        Args:
            members: positions of the ingredients, in the order of the merge.
            shares: their coefficients; empty: equal ones.
        """
        from stockpot.merging.recipe import Recipe
        from stockpot.soups.preparation.options import split_options

        job = self.job
        preparation, options = split_options(job.method, job.options)
        # `IngredientStack` divides a sum once; equal bits need equal coefficients of 1 here. Rules
        # may have methods that do not divide by the sum of the coefficients.
        share = 1.0 if job.method == "linear" and not job.rules else 1 / len(members)
        digests = tuple(job.ingredients[member].digest for member in members)
        coefficients = tuple(shares) or (share,) * len(members)
        recipe = Recipe(job.method, coefficients, options, job.seed, digests)
        if preparation is None:
            return recipe
        side = self._side_information.of(preparation, members, recipe)
        return replace(recipe, side_information=side)

    @cached_property
    def _side_information(self) -> SideInformation:
        job = self.job
        setting = (job.root, job.workload, job.ingredients)
        return SideInformation(*setting, job.base, job.seed, self.device)
