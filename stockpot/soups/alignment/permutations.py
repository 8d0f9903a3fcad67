"""Permutation specs of nets, and permutation of state dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from stockpot.errors import InputError

Axis: TypeAlias = str | tuple[str, int] | None
"""The permutation of an axis: its name; (name, entries per block); None if there is none."""

Spec: TypeAlias = Mapping[str, tuple[Axis, ...]]
"""One entry per axis, for each tensor of a state dict."""

Permutations: TypeAlias = Mapping[str, Tensor]
"""int64 indices by name: entry k of the result is entry `indices[k]` of the input."""


def check_spec(spec: Spec, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Check that `spec` fits the tensors of `state`.

    `check_invariance` checks that the permutations do not change the net's function.

    Returns:
        The size of each permutation by name, in the order of first use.

    Raises:
        InputError: a tensor is not listed or does not exist, an axis has no entry, a block does not
            divide its axis, a name has two sizes, or occurs twice in a tensor that is not square.
    """
    if unknown := [name for name in spec if name not in state]:
        raise InputError(f"spec: every tensor must be one of the model, got {unknown[0]!r}")
    sizes: dict[str, int] = {}
    first_uses: dict[str, str] = {}
    for name, tensor in state.items():
        if name not in spec:
            raise InputError(f"spec: every tensor must be listed, got none for {name!r}; add it")
        for axis, named, size in _named_axes(name, spec[name], tensor):
            first_use = first_uses.setdefault(named, f"axis {axis} of {name!r}")
            if sizes.setdefault(named, size) != size:
                raise InputError(
                    f"spec: {named!r} must have one size, got {sizes[named]} on {first_use} "
                    f"and {size} on axis {axis} of {name!r}"
                )
    return sizes


def permute(
    state: Mapping[str, Tensor], spec: Spec, permutations: Permutations
) -> dict[str, Tensor]:
    """Return the state dict with its units permuted; `state` is not changed.

    Raises:
        InputError: the spec does not fit, or a permutation is missing, unknown or invalid.
    """
    _check_permutations(permutations, check_spec(spec, state))
    return {name: permute_tensor(x, spec[name], permutations) for name, x in state.items()}


def permute_tensor(tensor: Tensor, axes: tuple[Axis, ...], permutations: Permutations) -> Tensor:
    """Permute the axes of a tensor, without checks."""
    result = tensor.detach().clone()
    for dim, axis in enumerate(axes):
        if axis is not None:
            named, block = split_axis(axis)
            indices = permutations[named].to(tensor.device)
            offsets = torch.arange(block, device=tensor.device)
            result = result.index_select(dim, (indices[:, None] * block + offsets).flatten())
    return result


def split_axis(axis: str | tuple[str, int]) -> tuple[str, int]:
    """Return the name and the entries per block of an axis that has a permutation."""
    return (axis, 1) if isinstance(axis, str) else axis


def identity_permutations(sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Return identity permutations, for sizes by name."""
    return {name: torch.arange(size) for name, size in sizes.items()}


def random_permutations(sizes: Mapping[str, int], generator: Generator) -> dict[str, Tensor]:
    """Draw a random permutation for each name, with a generator on the CPU."""
    return {name: torch.randperm(size, generator=generator) for name, size in sizes.items()}


def compose(first: Permutations, then: Permutations) -> dict[str, Tensor]:
    """Return the composition: `first`, then `then`."""
    return {name: first[name][indices] for name, indices in then.items()}


def _named_axes(
    name: str, axes: tuple[Axis, ...], tensor: Tensor
) -> Iterator[tuple[int, str, int]]:
    """Yield (axis, permutation, its size) for each axis of a tensor that has a permutation."""
    if len(axes) != tensor.ndim:
        raise InputError(
            f"spec: {name!r} must have one entry per axis, got {len(axes)} for {tensor.ndim} axes"
        )
    blocks: dict[str, int] = {}
    for position, axis in enumerate(axes):
        if axis is None:
            continue
        named, block = split_axis(axis)
        size = tensor.shape[position]
        if block < 1 or size % block:
            raise InputError(
                f"spec: a block must divide its axis, got {block} for axis {position} of "
                f"{name!r} with {size} entries"
            )
        yield position, named, size // block
        # Both axes of a square tensor may be one residual stream, which it reads and writes.
        if blocks.setdefault(named, block) != block:
            raise InputError(
                f"spec: a name may occur twice only in a square tensor, got {named!r} in {name!r} "
                f"of shape {tuple(tensor.shape)}"
            )


def _check_permutations(permutations: Permutations, sizes: Mapping[str, int]) -> None:
    if permutations.keys() != sizes.keys():
        raise InputError(
            f"permutations: must be one for each of {sorted(sizes)}, got {sorted(permutations)}"
        )
    for name, size in sizes.items():
        if not torch.equal(permutations[name].sort().values.cpu(), torch.arange(size)):
            raise InputError(
                f"permutations: {name!r} must hold each of 0 to {size - 1} once, "
                f"got {permutations[name].tolist()!r}"
            )
