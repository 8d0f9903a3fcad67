"""Centred kernel alignment: how alike two representations of the same examples are."""

from __future__ import annotations

import torch
from torch import Tensor

_CONSTANT = 1e-12  # a smaller share of the squares about the mean is rounding
_FEWEST = {True: 4, False: 2}  # examples, of the debiased and of the plain measure


def cka(first: Tensor, second: Tensor, *, debiased: bool = True) -> float:
    """Return the linear centred kernel alignment of two representations.

    It is 1 where one is the other rotated, mirrored, moved or scaled, and knows no order of
    units. Without debiasing it is large for all representations that are wider than there are
    examples; debiased it is 0 in the mean for independent ones, and may be negative.

    Args:
        first: (N, ...), N examples; all other axes count as features.
        second: of the same examples; (N, ...), of any width.
        debiased: whether to use the unbiased estimate of the kernels' dependence; it needs 4
            examples, the other one 2.

    Returns:
        At most 1; 0 where one of them is the same for all examples.

    Raises:
        ValueError: there are too few examples, or different numbers of them.

    Source: Kornblith et al. 2019, https://arxiv.org/abs/1905.00414, section 3 (linear CKA); Song
    et al. 2012, https://jmlr.org/papers/v13/song12a.html (unbiased HSIC), in the form of Szekely
    and Rizzo 2014, https://arxiv.org/abs/1310.2926 (U-centring).
    """
    if len(first) != len(second):
        raise ValueError(f"cka: needs the same examples, got {len(first)} and {len(second)}")
    return float(kernel(first, debiased=debiased) @ kernel(second, debiased=debiased))


def kernel(features: Tensor, *, debiased: bool = True) -> Tensor:
    """Return a centred kernel of length 1, so that a CKA is the product of two.

    Args:
        features: (N, ...).
        debiased: as for `cka`.

    Returns:
        (N * N,), float64; zeros where the features are the same for all examples.

    Raises:
        ValueError: there are too few examples.
    """
    num_examples, fewest = len(features), _FEWEST[debiased]
    if num_examples < fewest:
        raise ValueError(f"cka: needs {fewest} examples or more, got {num_examples}")
    wide = features.detach().flatten(1)
    wide = wide if wide.dtype == torch.float64 else wide.float()
    # Squares of features of any scale should neither overflow nor vanish.
    scaled = wide / wide.abs().max().clamp(min=torch.finfo(wide.dtype).tiny)
    centred = scaled - scaled.mean(dim=0)  # before the product, which would lose digits
    if centred.square().sum() <= _CONSTANT * scaled.square().sum():
        return wide.new_zeros(num_examples**2, dtype=torch.float64)
    gram = _gram(centred / centred.abs().max())
    if debiased:
        gram = _without_diagonal(gram)
    flat = gram.flatten()
    unit: Tensor = flat / flat.norm().clamp(min=torch.finfo(torch.float64).tiny)
    return unit


def _gram(centred: Tensor) -> Tensor:
    gram: Tensor = (centred @ centred.T).double()
    return gram


def _without_diagonal(gram: Tensor) -> Tensor:
    """Centre a kernel by its entries off the diagonal ("U-centring")."""
    n = len(gram)
    hollow = gram - gram.diag().diag()
    rows = hollow.sum(dim=0) / (n - 2)
    centred = hollow - rows - rows[:, None] + hollow.sum() / ((n - 1) * (n - 2))
    centred.fill_diagonal_(0.0)
    return centred
