"""Losses that hold a model near a reference model; each is differentiable in the model alone.

Outputs are those of the workload's task: logits, or values of a regression, whose distribution is
the unit Gaussian around them. Language models give logits (N, T, V).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def kl_divergence(outputs: Tensor, reference: Tensor) -> Tensor:
    """Return KL(model || reference) over the last dimension; (..., C) -> (...).

    The direction of RLHF (SALSA: Chegini et al. 2024, https://arxiv.org/abs/2411.01798, section 3):
    the model may leave out what the reference does, but not do what the reference does not.
    """
    own, other = outputs.log_softmax(dim=-1), reference.log_softmax(dim=-1)
    return (own.exp() * (own - other)).sum(dim=-1)


def distillation(outputs: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """Return T^2 times the cross entropy from reference to model at temperature T; (...).

    It is least, but not 0, where both are equal. T^2 keeps the size of its gradient (Hinton et al.
    2015, section 2, https://arxiv.org/abs/1503.02531). ZSCL: Zheng et al. 2023, equation 2
    (https://arxiv.org/abs/2303.06628).

    Args:
        outputs: logits (..., C).
        reference: logits (..., C).
        temperature: T, above 0.
    """
    targets = (reference / temperature).softmax(dim=-1)
    own = (outputs / temperature).log_softmax(dim=-1)
    return -(temperature**2) * (targets * own).sum(dim=-1)


def gaussian_divergence(outputs: Tensor, reference: Tensor) -> Tensor:
    """Return the KL divergence of unit Gaussians, half the squared distance; (N, ...) -> (N,)."""
    return (outputs - reference).square().flatten(1).sum(dim=1) / 2


def preference_loss(outputs: Tensor, reference: Tensor, preferred: Tensor, beta: float) -> Tensor:
    """Return the loss of direct preference optimisation, DPO; (N,).

    -log sigmoid(beta (model's log ratio - reference's log ratio)) of the preferred to the other
    response: the cross entropy of two classes. It is log 2 where model and reference are equal.
    Source: Rafailov et al. 2023, equation 7 (https://arxiv.org/abs/2305.18290).

    Args:
        outputs: log-probabilities of both responses of each pair, in nats; (N, 2).
        reference: likewise.
        preferred: which of the two is preferred, 0 or 1; (N,).
        beta: strength of the pull to the reference, above 0.
    """
    return functional.cross_entropy(beta * (outputs - reference), preferred, reduction="none")


def expected_reward(outputs: Tensor, rewards: Tensor) -> Tensor:
    """Return the mean reward of an action that is drawn from the model; (N,).

    With the KL divergence to a reference times beta subtracted, its optimum is the reference times
    exp(reward / beta), normalised (Rafailov et al. 2023, equation 4).

    Args:
        outputs: logits of actions (N, C).
        rewards: of each action (N, C).
    """
    return (outputs.softmax(dim=-1) * rewards).sum(dim=-1)
