"""Merges of a job's ingredients, in memory, and their scores on val."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.soups.selection.candidates import Blocks
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.masks import Masks
    from stockpot.merging.stack import IngredientStack
    from stockpot.merging.states import State, StateDict
    from stockpot.scoring.val_scores import ValScorer
    from stockpot.soups.preparation.finishing import Finishing


@dataclass
class Merges:
    """Merges of some ingredients, scored on val.

    Weights and val are loaded when they are first needed: not every choice scores merges.

    Attributes:
        root: the project root.
        workload: its val split is opened, and train to recalibrate merged weights.
        ingredients: the models that are merged; positions refer to them.
        device: where weights are scored.
    """

    root: Path
    workload: WorkloadSpec
    ingredients: Sequence[Model]
    device: str

    def score_members(self, members: Sequence[int]) -> Tensor:
        """Return the val values (N,), in float64, of the mean of some ingredients."""
        return self.scorer.val_values(self.mean_of(members))

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The declared range of val values; None without one."""
        from stockpot.workloads.metric_ranges import range_of

        return range_of(next(iter(self.workload.build().metrics.values())))

    def blocks_of(
        self,
        merge: Callable[[Sequence[int], Sequence[float]], StateDict],
        random_seed: int | None = None,
    ) -> Blocks:
        """Return how merges are scored on val in blocks; the metric has a range of values.

        Args:
            merge: positions of ingredients, and their coefficients -> weights on the device.
            random_seed: of the order of the examples; None: the hardest come first.
        """
        from stockpot.scoring import val_blocks

        assert self.value_range is not None, "there is nothing to gain from blocks"
        if random_seed is None:
            indices = val_blocks.hardest_first(
                self.root, self.workload, self.ingredients, self.device
            )
        else:
            indices = val_blocks.in_random_order(self.scorer.num_examples, random_seed)

        def values(members: Sequence[int], shares: Sequence[float]) -> Iterator[Tensor]:
            return self.scorer.val_values_in(merge(members, shares), indices)

        return Blocks(indices, *self.value_range, values)

    def mean_of(self, members: Sequence[int]) -> StateDict:
        """Return the mean of some ingredients, as their soup is saved, on the device.

        The next call overwrites its memory.
        """
        mean = self.stack.mean_of(members, reuse=True)
        return self.finished(mean, dict.fromkeys(members, 1.0))

    def finished(
        self,
        weights: State,
        shares: Mapping[int, float],
        with_base: bool = False,
        trained: Sequence[State] | None = None,
    ) -> StateDict:
        """Return merged weights as their soup is saved: recalibrated, or repaired.

        Args:
            weights: the merge.
            shares: the coefficients of its ingredients, by their positions.
            with_base: whether the base is part of it.
            trained: the weights of all ingredients if they were trained further, on the device;
                None: they are as stored.
        """
        coefficients = [*shares.values()]
        parents: list[State] = []
        if self._finishing.repairs(coefficients, with_base=with_base):
            parents = [(trained or self.states)[place] for place in shares]
        if trained:  # their BatchNorm statistics are those from before the training
            parents = [self._finishing.recalibrated(parent, 2) for parent in parents]
        return self._finishing(weights, parents, coefficients, with_base=with_base)

    def repair_details(
        self, shares: Mapping[int, float], with_base: bool = False
    ) -> dict[str, bool]:
        """Return whether a soup is repaired, for its record; nothing if none could be."""
        if not self._are_aligned:
            return {}
        return {"repaired": self._finishing.repairs([*shares.values()], with_base=with_base)}

    @cached_property
    def stack(self) -> IngredientStack:
        """The ingredients on the device, as one matrix."""
        from stockpot.merging.stack import IngredientStack

        return IngredientStack(self.states, self.device)

    @cached_property
    def states(self) -> list[StateDict]:
        """The weights of the ingredients, on the CPU."""
        return [self.load(model) for model in self.ingredients]

    @cached_property
    def scorer(self) -> ValScorer:
        """Scores of weights on val and its shifts."""
        from stockpot.scoring.cached_passes import CachedPasses
        from stockpot.scoring.val_scores import ValScorer

        passes = CachedPasses(self.root, self.workload, self.device)
        return ValScorer(self.workload.build(), self.device, passes)

    @cached_property
    def _finishing(self) -> Finishing:
        from stockpot.soups.preparation.finishing import Finishing

        aligned = self.states if self._are_aligned else ()
        return Finishing(self.workload.build(), self.device, aligned)

    @property
    def _are_aligned(self) -> bool:
        return any(model.is_aligned for model in self.ingredients)

    def agreed_masks(self, members: Sequence[int]) -> Masks | None:
        """Return how masks are kept if those of the ingredients agree; None without masks.

        Raises:
            InputError: the masks differ.
        """
        if all(self.ingredients[member].is_dense for member in members):
            return None
        from stockpot.merging.sparse import check_equal_masks

        check_equal_masks({self.ingredients[m].name: self.states[m] for m in members})
        return "first"

    def load(self, model: Model) -> StateDict:
        """Read a model's weights, on the CPU.

        Raises:
            InputError: they are missing or damaged.
        """
        from stockpot.storage.checkpoints import load_tensors, verify

        return load_tensors(verify(self.root, model.checkpoint))

    def moved(self, state: State) -> StateDict:
        """Return weights on the device."""
        return {name: tensor.to(self.device) for name, tensor in state.items()}
