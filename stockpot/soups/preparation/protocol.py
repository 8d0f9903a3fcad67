"""The protocol of preparations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.states import State, StateDict
    from stockpot.workloads.protocol import Workload


class Preparation(Protocol):
    """Computes what a merge method needs to know about a model: a frozen dataclass of options.

    Attributes:
        uses_base: whether it depends on the model that the others were fine-tuned from.
    """

    uses_base: ClassVar[bool] = False

    def compute(
        self,
        workload: Workload,
        weights: Mapping[str, Tensor],
        *,
        seed: int,
        device: str,
        base: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Compute statistics of a model from inputs of train only; on the CPU.

        Args:
            workload: provides the train split and the forward pass.
            weights: the model's state dict.
            seed: seed of the choice of examples, and of other random numbers.
            device: where it is computed.
            base: the state dict of the base, for those that use it.
        """
        ...

    def check(self, workload: Workload) -> None:  # noqa: ARG002 (for those that override it)
        """Check that the options are for a workload; called before any work.

        Raises:
            InputError: they are not.
        """
        return

    def side_information(self, cached: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Return the argument of the merge method, by tensor name: the statistics themselves."""
        return cached


MergeOf: TypeAlias = "Callable[[Sequence[State], Sequence[Mapping[str, Any]]], StateDict]"
"""(the same tensors of M models, side information about each model) -> the merged tensors."""


class JointPreparation(ABC):
    """Computes what a merge method needs to know about models that are merged with each other."""

    @abstractmethod
    def compute_together(
        self,
        workload: Workload,
        states: Sequence[State],
        merge: MergeOf,
        *,
        seed: int,
        device: str,
    ) -> list[dict[str, Tensor]]:
        """Compute the side information about each of M models from inputs of train only.

        Args:
            workload: provides the train split and the forward pass.
            states: the state dicts of the models.
            merge: merges some of their tensors by the method, with what is known so far.
            seed: seed of the choice of examples.
            device: where it is computed.
        """
