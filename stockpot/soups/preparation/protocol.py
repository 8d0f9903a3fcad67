"""The protocol of preparations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

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

    def check(self, workload: Workload) -> None:
        """Check that the options are for a workload; called before any work.

        Raises:
            InputError: they are not.
        """

    def side_information(self, cached: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Return the argument of the merge method, by tensor name: the statistics themselves."""
        return cached
