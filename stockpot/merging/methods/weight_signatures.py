"""Robust weight signatures (Cai et al. 2023, https://arxiv.org/abs/2302.12480).

A signature is the part of the change by training on corrupted data that training on clean data
does not make. Added to a model, it makes the model robust to that corruption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.measurements import depends_on
from stockpot.merging.method import method
from stockpot.merging.methods.inner_products import gram
from stockpot.merging.methods.task_vectors import check_scale, sum_weighted
from stockpot.merging.runs import Run, Runs

_ROUNDING = 1e-12  # of differences of inner products in float64


@depends_on()
def measure_shares(
    runs: Runs, _draws: Sequence[Draws] = (), _options: Mapping[str, Any] | None = None
) -> list[float]:
    """Return the share of the clean model's change that each corrupted model has made too.

    Args:
        runs: of the target, the clean model and n corrupted models.

    Returns:
        n numbers; 0 without a base, and where the clean model has not changed.
    """
    of_clean, *of_corrupted = sum(
        runs.map(_clean_products), torch.zeros(runs.num_models - 1, dtype=torch.float64)
    ).tolist()
    return [product / of_clean if of_clean else 0.0 for product in of_corrupted]


@method(
    "weight_signatures",
    num_models=(3, None),
    is_symmetric=False,
    is_elementwise=True,
    measure=measure_shares,
)
def weight_signatures(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    base: Tensor | None = None,
    *,
    scale: float = 1.0,
    remove: bool = False,
    measured: Sequence[float] | None = None,
) -> Tensor:
    """Add what training on corrupted data, but not on clean data, changes to the first model.

    With the change d of a corrupted model from the base, and the change a of the clean one, the
    signature is d - a <a, d> / <a, a>.

    Args:
        tensors: same-named tensors of the target, the clean model and n >= 1 corrupted ones; one
            shape, float32 or float64. The target may be the clean model, or any other of its
            architecture.
        coefficients: one number per model; those of the corrupted models are the factors on their
            signatures, those of the target and the clean model have no effect.
        base: the tensor that the clean and the corrupted models were trained from; None to take
            the whole difference of a corrupted model from the clean one as its signature.
        scale: finite factor on all signatures (the paper's alpha).
        remove: whether the signatures are subtracted, which undoes an addition up to rounding.
        measured: <a, d> / <a, a> of each corrupted model for whole tensors, where `tensors` are
            parts of larger ones.

    Returns:
        The target with the signatures; shape and dtype of the inputs. The target bit for bit if
        all factors are 0.

    Raises:
        ValueError: `scale` is not finite.

    Source: the paper's projection, per tensor, with inner products in float64. The authors' code
    uses 1 / n as factors, and multiplies by 1 / n once more. Without a base: an addition.
    """
    check_scale("weight_signatures", scale)
    sign = -scale if remove else scale
    factors = [sign * coefficient for coefficient in coefficients[2:]]
    if not any(factors):
        return tensors[0].clone()
    shares = measure_shares(Runs.of(tensors, base)) if measured is None else measured
    return tensors[0] + sum_of_signatures(tensors, base, factors, shares)


def sum_of_signatures(
    tensors: Sequence[Tensor],
    base: Tensor | None,
    factors: Sequence[float],
    shares: Sequence[float],
) -> Tensor:
    """Sum the signatures, each times its factor.

    Args:
        tensors: of the target, which is not used, the clean model and n corrupted ones.
        base: the tensor that they were trained from, or None; as for `weight_signatures`.
        factors: n numbers.
        shares: n numbers, from `measure_shares`.
    """
    _, clean, *corrupted = tensors
    signatures = (
        _signature(tensor, clean, base, share)
        for tensor, share in zip(corrupted, shares, strict=True)
    )
    return sum_weighted(signatures, factors)


def signature_size(runs: Runs) -> float:
    """Return the sum of the signatures' squared norms, relative to that of the clean tensor.

    Args:
        runs: of the target, the clean model and n corrupted models.

    Returns:
        At least 0; infinite for signatures of a clean tensor that is 0.
    """
    count = runs.num_models
    products = sum(runs.map(_all_products), torch.zeros(count, count, dtype=torch.float64))
    of_clean, of_change = float(products[-1, -1]), float(products[0, 0])
    size = 0.0
    for own in range(1, count - 1):
        whole, shared = float(products[own, own]), float(products[0, own])
        rest = whole - (shared / of_change * shared if of_change else 0.0)
        size += rest if rest > _ROUNDING * whole else 0.0
    if size == 0:
        return 0.0
    return size / of_clean if of_clean else float("inf")


def _signature(corrupted: Tensor, clean: Tensor, base: Tensor | None, share: float) -> Tensor:
    if base is None:
        return corrupted - clean
    return (corrupted - base) - (clean - base) * share


def _clean_products(run: Run) -> Tensor:
    """Return <a, a> and, for each corrupted model, <a, d>; 0 without a base."""
    _, clean, *corrupted = run.tensors
    if run.base is None:
        return torch.zeros(1 + len(corrupted), dtype=torch.float64)
    change = clean - run.base
    return gram([change, *(tensor - run.base for tensor in corrupted)])[0].cpu()


def _all_products(run: Run) -> Tensor:
    """Return the inner products of a, each d, and the clean model itself."""
    _, clean, *corrupted = run.tensors
    start = clean if run.base is None else run.base
    return gram([clean - start, *(tensor - start for tensor in corrupted), clean]).cpu()
