"""The side information of merge methods: facts on ingredients other than their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockpot.merging.recipe import Recipe
    from stockpot.soups.preparation.protocol import JointPreparation, Preparation
    from stockpot.storage.models import Model
    from stockpot.workloads.spec import WorkloadSpec


@dataclass(frozen=True)
class SideInformation:
    """Statistics of ingredients, each prepared once.

    Attributes:
        root: the project root.
        workload: its train split is used.
        ingredients: the models; positions refer to them.
        base: the model that they were fine-tuned from.
        seed: of the examples that are used.
        device: where ingredients are prepared.
    """

    root: Path
    workload: WorkloadSpec
    ingredients: Sequence[Model]
    base: Model
    seed: int
    device: str
    _prepared: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def of(
        self,
        preparation: Preparation | JointPreparation,
        members: Sequence[int],
        recipe: Recipe,
    ) -> tuple[Mapping[str, Any], ...]:
        """Return the side information about some ingredients.

        Args:
            preparation: of the merge method; the same one in all calls.
            members: positions of the ingredients.
            recipe: of their merge.
        """
        from stockpot.soups.preparation.cache import prepare, prepare_together
        from stockpot.soups.preparation.protocol import JointPreparation

        models = [self.ingredients[member] for member in members]
        if isinstance(preparation, JointPreparation):
            return prepare_together(
                self.root, self.workload, models, preparation, recipe, self.device
            )
        where: dict[str, Any] = {"base": self.base, "seed": self.seed, "device": self.device}
        for member, model in zip(members, models, strict=True):
            if member not in self._prepared:
                found = prepare(self.root, self.workload, model, preparation, **where)
                self._prepared[member] = found
        return tuple(self._prepared[member] for member in members)
