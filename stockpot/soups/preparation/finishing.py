"""The changes to merged weights before they are scored and saved: recalibration, or REPAIR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stockpot.soups.preparation.recalibration import Recalibration
from stockpot.soups.preparation.registry import REPAIR

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.states import State
    from stockpot.workloads.protocol import Workload


class Finishing:
    """Finishes merged weights.

    Weighted averages of aligned ingredients get REPAIR. All other merges get new BatchNorm
    statistics: those with the base or with a negative coefficient too, because there the mean
    statistics of the parents are no goal.

    Attributes:
        recalibrated: new BatchNorm statistics alone, for merges that are no soups.
    """

    def __init__(self, workload: Workload, device: str, aligned: Sequence[State] = ()) -> None:
        """Prepare the changes; nothing is measured yet.

        Args:
            workload: its train split is used.
            device: where forward passes run.
            aligned: the weights of the ingredients if they are aligned to each other.
        """
        self.recalibrated = Recalibration(workload, device)
        self._repaired: Any = REPAIR["repair"](workload, device, aligned) if aligned else None

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        parents: Sequence[State],
        coefficients: Sequence[float],
        *,
        with_base: bool = False,
    ) -> dict[str, Tensor]:
        """Return the weights as a soup of these is saved, on their devices.

        Args:
            weights: the merge.
            parents: the ingredients that it was merged from; only read for REPAIR.
            coefficients: one per ingredient.
            with_base: whether the base is part of it.
        """
        if self.repairs(coefficients, with_base=with_base):
            repaired: dict[str, Tensor] = self._repaired(weights, parents, coefficients)
            return repaired
        return self.recalibrated(weights, len(coefficients) + with_base)

    def repairs(self, coefficients: Sequence[float], *, with_base: bool = False) -> bool:
        """Return whether a merge with these coefficients gets REPAIR."""
        is_average = len(coefficients) > 1 and min(coefficients) >= 0 and not with_base
        return self._repaired is not None and is_average
