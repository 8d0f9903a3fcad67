"""Rules by kind of tensor: weights are merged by the method, statistics and integers are not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe


def merge_tensor(
    name: str, tensors: Sequence[Tensor], recipe: Recipe, base: Tensor | None = None
) -> Tensor:
    """Merge the tensors called `name` of all models, by the rule for their kind.

    Args:
        name: the tensor's name in the state dict.
        tensors: M tensors, one per model, of one shape.
        recipe: the recipe of weights; M coefficients, in the order of `tensors`.
        base: the base's tensor of that name, for methods that use it.

    Returns:
        The merged tensor, in the first one's dtype; computed in float32 or wider, rounded once.

    Raises:
        InputError: shapes differ, a value is not finite, or integer buffers differ.
    """
    with_base = [*tensors, *([] if base is None else [base])]
    check_shapes(name, [tensor.shape for tensor in with_base])
    first = tensors[0]
    if not first.is_floating_point():
        return _merge_integers(name, tensors)
    check_finite(name, with_base)
    dtype = reduce(torch.promote_types, (t.dtype for t in with_base), torch.float32)
    wide = [tensor.to(dtype) for tensor in tensors]
    # Statistics are averaged by every method: they describe activations, not weights.
    if name.endswith("running_mean"):
        return linear(wide, statistics_shares(name, recipe.shares)).to(first.dtype)
    wide_base = None if base is None else base.to(dtype)
    return recipe.merge(name, wide, wide_base).to(first.dtype)


def merge_running_vars(
    name: str,
    variances: Sequence[Tensor],
    means: Sequence[Tensor],
    coefficients: Sequence[float],
) -> Tensor:
    """Pool the BatchNorm variances called `name` by the law of total variance, in float64.

    Raises:
        InputError: shapes differ, a value is not finite, or the coefficients sum to 0.
    """
    check_shapes(name, [tensor.shape for tensor in (*variances, *means)])
    check_finite(name, variances)
    shares = statistics_shares(name, coefficients)
    mean = linear([mean.double() for mean in means], shares)
    # Mean of v + m^2 minus squared mean would be equal, but loses digits where m^2 >> v.
    around_it = [
        variance.double() + (own.double() - mean) ** 2
        for variance, own in zip(variances, means, strict=True)
    ]
    return linear(around_it, shares).to(variances[0].dtype)


def check_shapes(name: str, shapes: Sequence[Sequence[int]]) -> None:
    """Require equal shapes.

    Raises:
        InputError: the first shape that differs from model 0's.
    """
    for position, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise InputError(
                f"tensor {name!r} of model {position}: has shape {tuple(shape)}, model 0 "
                f"has {tuple(shapes[0])}; merge models of one base"
            )


def statistics_shares(name: str, coefficients: Sequence[float]) -> list[float]:
    """Return the coefficients of the average of BatchNorm statistics, for all methods.

    For variances, negative ones are replaced by 0, so that the result is not negative.

    Raises:
        InputError: the sum is 0.
    """
    is_variance = name.endswith("running_var")
    shares = [max(share, 0.0) if is_variance else share for share in coefficients]
    if sum(shares) == 0:
        raise InputError(
            f"tensor {name!r}: statistics are averaged, but coefficients sum to 0, got {shares}"
        )
    return shares


def check_finite(name: str, tensors: Sequence[Tensor]) -> None:
    """Require finite values.

    Raises:
        InputError: the first model with one that is not.
    """
    for position, tensor in enumerate(tensors):
        if not torch.isfinite(tensor).all():
            raise InputError(f"tensor {name!r} of model {position}: has a value that is not finite")


def _merge_integers(name: str, tensors: Sequence[Tensor]) -> Tensor:
    """Return equal buffers, or the largest counter; an average of integers would truncate."""
    if all(torch.equal(tensor, tensors[0]) for tensor in tensors):
        return tensors[0].clone()
    if name.endswith("num_batches_tracked"):
        return torch.stack(list(tensors)).amax(dim=0)
    raise InputError(
        f"tensor {name!r}: integer buffers of the models differ and cannot be merged; "
        "`integer: base` or `first` in a merge file copies them"
    )
