"""NearSwap: move to the second model where it is near (alchemonaut 2024).

https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from stockpot.merging.method import method
from stockpot.merging.search_ranges import SearchRange

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST_DISTANCE = 1e-6


@method("nearswap", num_models=(2, 2), is_symmetric=False, is_elementwise=True)
def nearswap(
    tensors: Sequence[Tensor], *, t: Annotated[float, SearchRange(1e-4, 1e-1, is_log=True)]
) -> Tensor:
    """Move each entry of the first model towards the second's; further, the nearer they are.

    Args:
        tensors: two same-named tensors; one shape, float32 or float64.
        t: entries at most this far apart become the second model's, others move by t towards
            them; at least 0, which returns the first model bit for bit.

    Returns:
        The merged tensor; shape and dtype of the inputs.

    Raises:
        ValueError: `t` is negative.

    Source: the model card, `lweight = t / |v0 - v1|`. Distances are bounded from below by
    1e-6 against division by 0; mergekit replaces results that are not finite. It calls the first
    model the base.
    """
    if not t >= 0:
        raise ValueError(f"nearswap: t must be at least 0, got {t}")
    first, second = tensors
    share = (t / (first - second).abs().clamp(min=_SMALLEST_DISTANCE)).clamp(max=1)
    return share * second + (1 - share) * first
