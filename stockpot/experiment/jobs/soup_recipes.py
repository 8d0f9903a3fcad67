"""The recipes of soups, with what their methods need to know about the ingredients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockpot.experiment.jobs.method_job import MethodJob
    from stockpot.merging.recipe import Recipe
    from stockpot.soups.preparation.protocol import JointPreparation, Preparation


@dataclass(frozen=True)
class SoupRecipes:
    """Recipes of soups of a job's ingredients.

    Attributes:
        job: the job.
        device: where ingredients are prepared.
    """

    job: MethodJob
    device: str
    _prepared: dict[int, Mapping[str, Any]] = field(default_factory=dict)

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
        return replace(recipe, side_information=self._known(preparation, members, recipe))

    def _known(
        self, preparation: Preparation | JointPreparation, members: Sequence[int], recipe: Recipe
    ) -> tuple[Mapping[str, Any], ...]:
        """Return the side information about some ingredients."""
        from stockpot.soups.preparation.cache import prepare, prepare_together
        from stockpot.soups.preparation.protocol import JointPreparation

        job = self.job
        models = [job.ingredients[member] for member in members]
        if isinstance(preparation, JointPreparation):
            return prepare_together(
                job.root, job.workload, models, preparation, recipe, self.device
            )
        where: dict[str, Any] = {"base": job.base, "seed": job.seed, "device": self.device}
        for member, model in zip(members, models, strict=True):
            if member not in self._prepared:
                found = prepare(job.root, job.workload, model, preparation, **where)
                self._prepared[member] = found
        return tuple(self._prepared[member] for member in members)
