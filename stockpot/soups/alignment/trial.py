"""A trial: how much better does the average of two nets get if they are aligned?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.states import State
from stockpot.soups.alignment.repaired import Repair
from stockpot.soups.alignment.workload_nets import Aligner

if TYPE_CHECKING:
    from stockpot.workloads.protocol import Workload

ALIGNMENTS = ("activations", "weights")
_MOST_ENTRIES = 5_000_000  # of a net whose alignment takes seconds
_MOST_UNITS = 1024  # with one order; matching takes the third power of their number


def try_alignment(
    workload: Workload,
    pair: tuple[State, State],
    before: float,
    values: Callable[[State], Tensor],
    device: str,
) -> dict[str, Any] | None:
    """Align a pair of nets in both ways, and score their repaired average.

    Large nets are not tried.

    Args:
        workload: the workload of the nets.
        pair: the weights of both.
        before: the score of their average without alignment, higher is better.
        values: state -> the metric of each example of val; (N,).
        device: where forward passes run.

    Returns:
        `align`, the better way, or for a large net the usual one; and `before` and `after`, the
        scores, None for a large net. None if the nets cannot be aligned, or gain nothing.
    """
    try:
        aligner = Aligner(workload, device)
        entries = sum(tensor.numel() for tensor in pair[0].values())
        if entries > _MOST_ENTRIES or max(aligner.sizes.values()) > _MOST_UNITS:
            return {"align": ALIGNMENTS[0], "before": None, "after": None}
        repaired = Repair(workload, device, ())
        scores: dict[str, float] = {}
        for by in ALIGNMENTS:
            both = (pair[0], aligner.align(*pair, by))
            mean = merge_states(list(both), Recipe.of(linear, (1.0, 1.0)))
            scores[by] = float(values(repaired(mean, both, (1.0, 1.0))).mean())
    except InputError:
        return None
    best = max(scores, key=scores.__getitem__)
    if scores[best] <= before:
        return None
    return {"align": best, "before": round(before, 6), "after": round(scores[best], 6)}
