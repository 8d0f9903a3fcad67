"""The tensors that have a weight signature: those of the first layers, where corruptions act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SIGNATURES = "weight_signatures"
"""The merge method whose models have roles."""

NUM_LAYERS = "num_layers"
"""The option that chooses the tensors; the merge method itself takes the chosen ones."""

_DEFAULT = 7
_SHARE = 0.9  # of the signature's size, that `auto` keeps


def split_layers(options: Mapping[str, Any]) -> tuple[int | str, dict[str, Any]]:
    """Split the options of a soup or a merge file into `num_layers` and those of the method.

    Returns:
        A number from 1, `auto` or `all`; and the other options.

    Raises:
        ValueError: `num_layers` is something else.
    """
    found = options.get(NUM_LAYERS, _DEFAULT)
    is_number = type(found) in (int, float) and found >= 1 and int(found) == found
    if not is_number and found not in ("auto", "all"):
        raise ValueError(
            f"weight_signatures: {NUM_LAYERS} must be a whole number from 1, auto or all, got "
            f"{found!r}"
        )
    others = {name: value for name, value in options.items() if name != NUM_LAYERS}
    return int(found) if is_number else found, others


def signature_tensors(
    num_layers: int | str, axes: Mapping[str, int], size_of: Callable[[str], float]
) -> list[str]:
    """Return the names of the tensors that have a signature.

    Args:
        num_layers: a number k: the first k weights of at least two axes, but at most a third of
            them, or 1. `auto`: the fewest first ones that hold 90 % of the signature's size.
            `all`: all tensors.
        axes: the number of axes of each tensor by name, in forward order; without BatchNorm
            statistics and integers.
        size_of: name of a tensor -> the size of its signature, as `signature_size` measures it;
            for `auto` alone.

    Returns:
        Names in forward order; none if the signature is 0 everywhere.

    Source: `keep_num` of the authors' code for VGG-16, which has 16 layers; the upper bound and
    `auto` are additions.
    """
    if num_layers == "all":
        return [*axes]
    weights = [name for name, count in axes.items() if count >= 2]
    if num_layers == "auto":
        return _fewest_first({name: size_of(name) for name in weights})
    return weights[: min(int(num_layers), max(1, len(weights) // 3))]


def _fewest_first(sizes: Mapping[str, float]) -> list[str]:
    """Return as few of the first names as hold the share of all sizes."""
    total = sum(sizes.values())
    held, chosen = 0.0, []
    for name, size in sizes.items():
        if held >= _SHARE * total:
            break
        held += size
        chosen.append(name)
    return chosen
