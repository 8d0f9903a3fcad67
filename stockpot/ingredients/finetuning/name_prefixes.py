"""Names of tensors of several parts in one file, and of tensors that compute others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add a prefix to all names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the tensors whose names have a prefix, and remove it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def plain_name(name: str) -> str:
    """Return the name of the parameter that a tensor of a parametrization belongs to."""
    module, found, rest = name.partition("parametrizations.")
    return f"{module}{rest.split('.')[0]}" if found else name
