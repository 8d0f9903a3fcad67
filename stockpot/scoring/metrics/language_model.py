"""Metrics of the losses of tokens (N, T), in nats, and target tokens (N, T)."""

from __future__ import annotations

import torch
from torch import Tensor

from stockpot.scoring.metrics.metric import TaskMetric

NO_TOKEN = -100
"""An ignored target, such as padding."""


def perplexity(outputs: Tensor, targets: Tensor) -> float:
    """Return e to the mean loss of all tokens that are not ignored; NaN without any.

    Each token has the same weight, so a long text counts for more than a short one.
    """
    losses = torch.masked_select(outputs.double(), targets != NO_TOKEN)
    return float(losses.mean().exp())


LANGUAGE_MODEL = (TaskMetric("perplexity", False, perplexity),)
