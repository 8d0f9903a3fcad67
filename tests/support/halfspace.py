"""Learners of a half-space, whose average has a known error: an oracle for averaging methods.

A learner is the normalised mean of y x over Gaussian examples, a share of whose labels is flipped.
Its error is the angle to the true normal over pi (and the noise), so what merging gains needs no
test set. Averaging K of them shrinks the angle like 1 / sqrt(K).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

DIMENSIONS, EXAMPLES, FLIPPED = 50, 400, 0.1


def normal() -> Tensor:
    """Return the true normal; (d,)."""
    return torch.eye(DIMENSIONS)[0]


def learner(generator: Generator) -> Tensor:
    """Learn from 400 examples of one's own; (d,), of length 1."""
    x = torch.randn(EXAMPLES, DIMENSIONS, generator=generator)
    flips = 1 - 2 * (torch.rand(EXAMPLES, generator=generator) < FLIPPED).float()
    labels = (x @ normal()).sign() * flips
    mean = (labels[:, None] * x).mean(dim=0)
    return mean / mean.norm()


def angle(weights: Tensor) -> float:
    """Return the angle to the true normal, in radians."""
    return math.acos(float(weights @ normal() / weights.norm()))


def expected_angle(num_learners: int) -> float:
    """Return the angle of the average: noise of d - 1 directions over the mean along the normal.

    The mean of y x along the normal is sqrt(2 / pi), less what flips turn around.
    """
    along = (1 - 2 * FLIPPED) * math.sqrt(2 / math.pi)
    return math.atan(math.sqrt((DIMENSIONS - 1) / (EXAMPLES * num_learners)) / along)
