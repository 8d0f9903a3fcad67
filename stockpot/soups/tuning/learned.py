"""Learned soup: coefficients by gradient (Wortsman et al. 2022, appendix I).

https://arxiv.org/abs/2203.05482
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count

import torch
from torch.optim import AdamW

from stockpot.errors import InputError
from stockpot.soups.tuning.mixtures import Mixture, Rows
from stockpot.soups.tuning.samplings import Sampling
from stockpot.soups.tuning.search import LabelledLosses


@dataclass(frozen=True, slots=True)
class Epoch:
    """The state after an epoch.

    Attributes:
        number: number of the epoch; 0 is the start, the uniform soup.
        rows: the coefficients of each group of tensors; each row sums to 1.
        beta: the inverse temperature.
        score: on the half of val for the choice; higher is better.
        loss: on the half for the choice.
        fit_loss: on the half for the fit; overfitted if it is far below `loss`.
    """

    number: int
    rows: Rows
    beta: float
    score: float
    loss: float
    fit_loss: float


def learn_coefficients(
    mixture: Mixture,
    val: LabelledLosses,
    *,
    epochs: int,
    learning_rate: float,
    sampling: Sampling,
) -> tuple[Epoch, list[Epoch]]:
    """Fit coefficients, given by logits, and an inverse temperature beta to a loss.

    Averaging lowers confidence, which beta compensates; it does not change predicted classes and
    is not part of the soup's weights.

    Args:
        mixture: the models.
        val: the losses on both halves of val.
        epochs: number of epochs; the best one may be an earlier one.
        learning_rate: of AdamW, without weight decay; constant.
        sampling: map from logits to coefficients; the softmax in the paper.

    Returns:
        The epoch with the highest score, then the lowest loss, on the half for the choice; and all
        epochs in order.

    Raises:
        InputError: a loss is not finite.

    Source: appendix I, and the authors' code (coefficients per tensor, 0.05, 5 epochs); the use
    of one half of val for the fit and of the other for the choice is an addition.
    """
    raw = torch.zeros(mixture.shape, dtype=torch.float64)
    beta = torch.ones((), dtype=torch.float64)
    optimizer = AdamW([raw, beta], lr=learning_rate, weight_decay=0.0)

    def state_after(number: int) -> Epoch:
        rows = mixture.rows(sampling.settled(raw))
        return Epoch(number, rows, float(beta), *val.judge(mixture.weights(rows), float(beta)))

    done, step = [state_after(0)], count()
    for number in range(1, epochs + 1):
        progress = (number - 1) / max(1, epochs - 1)
        for loss in val.batches(number):
            drawn = sampling.draw(raw, next(step), progress)
            value, gradient, slope = loss(mixture.weights(mixture.rows(drawn.alpha)), float(beta))
            if not math.isfinite(value):
                raise InputError(
                    f"learned soup: the loss must be finite, got {value} in epoch {number}; "
                    "lower learning_rate"
                )
            raw.grad = drawn.pull_back(mixture.pull_back(gradient))
            beta.grad = torch.tensor(slope, dtype=torch.float64)
            optimizer.step()
        done.append(state_after(number))
    best = max(done, key=lambda epoch: (epoch.score, -epoch.loss))
    return best, done
