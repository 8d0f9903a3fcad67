"""The base of jobs that merge ingredients by a method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stockpot.experiment.jobs.job import MergingJob

if TYPE_CHECKING:
    from stockpot.merging.masks import Masks
    from stockpot.merging.name_rules import NameRule
    from stockpot.storage.models import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodJob(MergingJob):
    """A model to merge from ingredients by a method.

    Attributes:
        method: the merge method; `wise_ft` for a selection on paths.
        options: options of the method and of its preparation, by name.
        rules: for tensors that are merged in another way.
        masks: which weights may differ from 0, for ingredients of different masks.
        save_every_seconds: minimum time between two saves of the state of a training.
        core_space: whether the ingredients' LoRA adapters are merged, in common bases.
        corruptions: by ingredient, what it was trained on, where its record does not say so.
    """

    method: str
    options: Mapping[str, int | float | bool | str]
    rules: tuple[NameRule, ...] = ()
    masks: Masks | None = None
    save_every_seconds: float = 30.0
    core_space: bool = False
    corruptions: Mapping[str, str] = field(default_factory=dict)

    def corruption_of(self, model: Model) -> str:
        """Return the corruption that an ingredient was trained on; none for clean data."""
        known = model.details.get("hyperparameters") or {}
        return self.corruptions.get(model.name) or str(known.get("corruption", "none"))

    @property
    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """The recipe in the form of manifests."""
