"""Maximum-likelihood weights of a mixture of models, which is a convex problem."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stockpot.statistics.values import Floats

_LOWEST_LOG = -700.0  # exp of less is 0
_FLOOR = 1e-12  # of a mixture's likelihood, relative to the best model's


def model_weights(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the weight of each model that minimises the mean NLL of the mixture.

    Args:
        log_probabilities: (K, N, C).
        targets: classes (N,).

    Returns:
        (K, 1), float64; at least 0, with the sum 1.
    """
    chosen = targets.expand(len(log_probabilities), -1)[..., None]  # (K, N, 1)
    return fit_mixture(log_probabilities.gather(2, chosen).squeeze(2))[:, None]


def class_weights(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the weight of each model for each class.

    Each class is fitted separately, against all others: the NLL of all classes together is not
    convex in these weights, since the mixture has to be normalised.

    Args:
        log_probabilities: (K, N, C).
        targets: classes (N,).

    Returns:
        (K, C), float64; at least 0, with the sum 1 over models.
    """
    is_class = functional.one_hot(targets, log_probabilities.shape[2]).bool()  # (N, C)
    of_others = torch.log(-torch.expm1(log_probabilities.clamp(max=0)))
    likelihoods = log_probabilities.where(is_class, of_others)
    return torch.stack([fit_mixture(column) for column in likelihoods.unbind(dim=2)], dim=1)


def fit_mixture(log_likelihoods: Tensor) -> Tensor:
    """Return the weights w on the simplex that minimise the mean of -log sum_k w_k L_k.

    Args:
        log_likelihoods: (K, N), of each observation under each model.

    Returns:
        (K,), float64; equal for equal models.
    """
    from scipy.optimize import Bounds, LinearConstraint, minimize

    logs = log_likelihoods.double().clamp(min=_LOWEST_LOG)
    # Only ratios matter; those to the best model of each example cannot overflow.
    ratios: Floats = (logs - logs.max(dim=0).values).exp().numpy()  # (K, N)

    def loss_and_slopes(weights: Floats) -> tuple[float, Floats]:
        mixture = weights @ ratios + _FLOOR  # (N,)
        return -float(np.log(mixture).mean()), -(ratios / mixture).mean(axis=1)

    found = minimize(
        loss_and_slopes,
        np.full(len(ratios), 1 / len(ratios)),
        jac=True,
        method="SLSQP",
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(np.ones((1, len(ratios))), 1, 1),
        options={"ftol": 1e-12, "maxiter": 200},
    )
    weights = np.clip(found.x, 0, None)
    return torch.from_numpy(weights / weights.sum())
