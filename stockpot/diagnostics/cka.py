"""Centred kernel alignment: similarity of two representations of the same examples."""

from __future__ import annotations

import torch
from torch import Tensor

_CONSTANT = 1e-12  # variance / mean square: less is rounding
_FEWEST = 4  # examples


def kernel(features: Tensor) -> Tensor:
    """Return a centred kernel of norm 1, so that the linear CKA is the inner product of two.

    The CKA is invariant to rotation, reflection, translation, scale and the order of units. It is
    at most 1; 0 if a representation is equal for all examples. By the unbiased estimate of HSIC,
    its mean is 0 for independent representations, and it can be negative; the plain one is large
    for any two representations with more features than examples.

    Args:
        features: (N, ...), N examples; all other axes are features.

    Returns:
        (N * N,), float64; zeros if the features are equal for all examples.

    Raises:
        ValueError: there are fewer than 4 examples.

    Source: Kornblith et al. 2019, https://arxiv.org/abs/1905.00414, section 3 (linear CKA); Song
    et al. 2012, https://jmlr.org/papers/v13/song12a.html (unbiased HSIC), in the form of Szekely
    and Rizzo 2014, https://arxiv.org/abs/1310.2926 (U-centring).
    """
    num_examples = len(features)
    if num_examples < _FEWEST:
        raise ValueError(f"cka: needs {_FEWEST} examples or more, got {num_examples}")
    wide = features.detach().flatten(1)
    wide = wide if wide.dtype == torch.float64 else wide.float()
    # Squares must neither overflow nor underflow.
    scaled = wide / wide.abs().max().clamp(min=torch.finfo(wide.dtype).tiny)
    centred = scaled - scaled.mean(dim=0)  # before the product, to lose no digits
    if centred.square().sum() <= _CONSTANT * scaled.square().sum():
        return wide.new_zeros(num_examples**2, dtype=torch.float64)
    narrowed = centred / centred.abs().max()
    flat = _without_diagonal((narrowed @ narrowed.T).double()).flatten()
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
