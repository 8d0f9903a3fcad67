"""Centred kernel alignment: similarity of two representations of the same examples."""

from __future__ import annotations

import torch
from torch import Tensor

_CONSTANT = 1e-12  # variance / mean square: less is rounding
_FEWEST = {True: 4, False: 2}  # examples, by `debiased`


def cka(first: Tensor, second: Tensor, *, debiased: bool = True) -> float:
    """Return the linear centred kernel alignment of two representations.

    It is invariant to rotation, reflection, translation, scale and the order of units. The plain
    measure is large for any two representations with more features than examples; the debiased
    one has mean 0 for independent representations, and can be negative.

    Args:
        first: (N, ...), N examples; all other axes are features.
        second: of the same examples; (N, ...), of any width.
        debiased: whether to use the unbiased estimate of HSIC; it needs 4 examples, the plain
            one 2.

    Returns:
        At most 1; 0 if a representation is equal for all examples.

    Raises:
        ValueError: there are too few examples, or their numbers differ.

    Source: Kornblith et al. 2019, https://arxiv.org/abs/1905.00414, section 3 (linear CKA); Song
    et al. 2012, https://jmlr.org/papers/v13/song12a.html (unbiased HSIC), in the form of Szekely
    and Rizzo 2014, https://arxiv.org/abs/1310.2926 (U-centring).
    """
    if len(first) != len(second):
        raise ValueError(f"cka: needs the same examples, got {len(first)} and {len(second)}")
    return float(kernel(first, debiased=debiased) @ kernel(second, debiased=debiased))


def kernel(features: Tensor, *, debiased: bool = True) -> Tensor:
    """Return a centred kernel of norm 1, so that the CKA is the inner product of two.

    Args:
        features: (N, ...).
        debiased: as for `cka`.

    Returns:
        (N * N,), float64; zeros if the features are equal for all examples.

    Raises:
        ValueError: there are too few examples.
    """
    num_examples, fewest = len(features), _FEWEST[debiased]
    if num_examples < fewest:
        raise ValueError(f"cka: needs {fewest} examples or more, got {num_examples}")
    wide = features.detach().flatten(1)
    wide = wide if wide.dtype == torch.float64 else wide.float()
    # Squares must neither overflow nor underflow.
    scaled = wide / wide.abs().max().clamp(min=torch.finfo(wide.dtype).tiny)
    centred = scaled - scaled.mean(dim=0)  # before the product, to lose no digits
    if centred.square().sum() <= _CONSTANT * scaled.square().sum():
        return wide.new_zeros(num_examples**2, dtype=torch.float64)
    narrowed = centred / centred.abs().max()
    gram: Tensor = (narrowed @ narrowed.T).double()
    if debiased:
        gram = _without_diagonal(gram)
    flat = gram.flatten()
    unit: Tensor = flat / flat.norm().clamp(min=torch.finfo(torch.float64).tiny)
    return unit


def _without_diagonal(gram: Tensor) -> Tensor:
    """Centre a kernel by its entries off the diagonal ("U-centring")."""
    n = len(gram)
    hollow = gram - gram.diag().diag()
    rows = hollow.sum(dim=0) / (n - 2)
    centred = hollow - rows - rows[:, None] + hollow.sum() / ((n - 1) * (n - 2))
    centred.fill_diagonal_(0.0)
    return centred
