"""Means of symmetric positive definite matrices on their manifold, in float64.

An arithmetic mean of covariances swells: its determinant exceeds those of all it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from stockpot.merging.methods.linear import linear

_TOLERANCE = 1e-12  # of the last step, per axis
_LOOSE_TOLERANCE = 1e-8
_MAX_STEPS = 100
_ASYMMETRY = 1e-5  # of the largest entry: what rounding to float32 may leave

Weights = Sequence[float]


def spd_mean(tensors: Sequence[Tensor], coefficients: Weights, metric: str) -> Tensor:
    """Average symmetric positive definite matrices.

    Args:
        tensors: M tensors (..., n, n), one per model; float32 or float64.
        coefficients: M numbers of at least 0, not all 0.
        metric: `riemann`, the affine-invariant mean: of two matrices A and B the point
            A^1/2 (A^-1/2 B A^-1/2)^t A^1/2 of their geodesic, of more the fixed point of Karcher's
            iteration; or `logeuclid`, the exponential of the mean logarithm.

    Returns:
        The mean, symmetric; shape and dtype of the inputs. One matrix is returned bit for bit.

    Raises:
        ValueError: a tensor is no such matrix, with its smallest eigenvalue; the metric is
            unknown, or a coefficient is out of its range.

    Source: Moakher 2005 (riemann), Arsigny et al. 2007 (logeuclid); of covariances of EEG:
    Carrara & Papadopoulo 2023.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {[*METRICS]}, got {metric!r}")
    total = sum(coefficients)
    if min(coefficients) < 0 or total == 0:
        raise ValueError(
            f"metric {metric!r}: coefficients must be at least 0 and not all 0, got "
            f"{[*coefficients]}"
        )
    matrices = [_checked(tensor, place) for place, tensor in enumerate(tensors)]
    used = [(m, c / total) for m, c in zip(matrices, coefficients, strict=True) if c]
    if len(used) == 1:
        return tensors[[bool(c) for c in coefficients].index(True)].clone()
    mean = METRICS[metric]([matrix for matrix, _ in used], [share for _, share in used])
    return ((mean + mean.mT) / 2).to(tensors[0].dtype)


def log_euclidean_mean(matrices: Sequence[Tensor], shares: Weights) -> Tensor:
    """Return the exponential of the mean logarithm."""
    return _mapped(linear([_mapped(m, torch.log) for m in matrices], shares), torch.exp)


def riemannian_mean(matrices: Sequence[Tensor], shares: Weights) -> Tensor:
    """Return the affine-invariant mean: of two matrices in closed form, else by iteration."""
    if len(matrices) == 2:
        first, second = matrices
        root, inverse = _roots(first)
        power = _mapped(inverse @ second @ inverse, lambda x: _positive(x) ** shares[1])
        return root @ power @ root
    mean = log_euclidean_mean(matrices, shares)
    for _ in range(_MAX_STEPS):
        root, inverse = _roots(mean)
        logs = [_mapped(inverse @ m @ inverse, lambda x: _positive(x).log()) for m in matrices]
        step = linear(logs, shares)
        mean = root @ _mapped(step, torch.exp) @ root
        if step.abs().max() <= _TOLERANCE:
            return mean
    if step.abs().max() > _LOOSE_TOLERANCE:  # rounding keeps ill-conditioned matrices above
        raise ValueError(f"metric riemann: no mean after {_MAX_STEPS} steps; take logeuclid")
    return mean


METRICS: Mapping[str, Callable[[Sequence[Tensor], Weights], Tensor]] = {
    "riemann": riemannian_mean,
    "logeuclid": log_euclidean_mean,
}
"""The means by the names of their metrics."""


def _checked(tensor: Tensor, place: int) -> Tensor:
    """Return the tensor in float64, exactly symmetric."""
    wide = tensor.double()
    if wide.ndim < 2 or wide.shape[-1] != wide.shape[-2] or not wide.numel():
        raise ValueError(
            f"model {place}: must be square matrices for a metric, got shape {(*wide.shape,)}"
        )
    asymmetry = (wide - wide.mT).abs().max()
    if asymmetry > _ASYMMETRY * wide.abs().max():
        raise ValueError(
            f"model {place}: must be symmetric for a metric, got entries that differ by "
            f"{asymmetry:.3g} from their mirror images"
        )
    symmetric = (wide + wide.mT) / 2
    least = float(torch.linalg.eigvalsh(symmetric).min())
    if not least > 0:
        raise ValueError(
            f"model {place}: must be positive definite for a metric, got a smallest eigenvalue of "
            f"{least:.3g}; average it by the method, without a rule"
        )
    return symmetric


def _mapped(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to the eigenvalues of symmetric matrices."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    mapped: Tensor = (vectors * function(values).unsqueeze(-2)) @ vectors.mT
    return mapped


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the square root and its inverse."""
    values, vectors = torch.linalg.eigh(matrix)
    root = _positive(values).sqrt().unsqueeze(-2)
    return (vectors * root) @ vectors.mT, (vectors / root) @ vectors.mT


def _positive(values: Tensor) -> Tensor:
    """Return eigenvalues unchanged; refuse those that rounding has made 0 or negative."""
    if not (values > 0).all():
        raise ValueError(
            "metric riemann: the matrices must be better conditioned for float64, got products "
            f"with an eigenvalue of {float(values.min()):.3g}; take logeuclid"
        )
    return values
