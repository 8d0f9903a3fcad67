"""Metrics of the losses of tokens (N, T), in nats, and target tokens (N, T)."""

from __future__ import annotations

import torch
from torch import Tensor

from stockpot.scoring.metrics.metric import TaskMetric

NO_TOKEN = -100
"""A target that does not count, such as padding."""


def perplexity(outputs: Tensor, targets: Tensor) -> float:
    """Return e to the mean loss of all tokens that count; NaN where none does.

    Each token has the same weight, so a long text counts for more than a short one.
    """
    return float(token_losses(outputs, targets).mean().exp())


def token_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each token that counts, in nats; float64."""
    return torch.masked_select(outputs.double(), targets != NO_TOKEN)


LANGUAGE_MODEL = (TaskMetric("perplexity", False, perplexity),)
