"""Search and merge: coefficients and the weights that they mix are trained in turn.

First-order DARTS (Liu et al. 2019, https://arxiv.org/abs/1806.09055) with the superposition of
weights instead of outputs (TangleNAS: Sukthanker et al. 2024, https://arxiv.org/abs/2312.10440): a
step costs two passes through one model, however many are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch.optim import Adam

from stockpot.errors import InputError
from stockpot.merging.states import StateDict
from stockpot.soups.tuning.mixtures import Mixture, Rows
from stockpot.soups.tuning.samplings import Sampling
from stockpot.soups.tuning.search import TrainHalves

if TYPE_CHECKING:
    from stockpot.soups.tuning.search import Objective

_BETAS, _WEIGHT_DECAY = (0.5, 0.999), 1e-3  # of coefficients, as in the code of DARTS


@dataclass(frozen=True, slots=True)
class Pass:
    """The state after an epoch.

    Attributes:
        number: number of the epoch; 0 is the start, the uniform soup.
        rows: the coefficients of each group of tensors; each row sums to 1.
        weights: of the mixture; empty in the list of all epochs.
        score: on val; higher is better.
        weights_loss: mean loss on the half of train that the weights are trained on.
        coefficients_loss: mean loss on the other half.
    """

    number: int
    rows: Rows
    weights: StateDict
    score: float
    weights_loss: float = math.nan
    coefficients_loss: float = math.nan


def search_and_merge(  # noqa: PLR0913 (three rates and what they are for)
    mixture: Mixture,
    halves: TrainHalves,
    score: Callable[[StateDict], float],
    *,
    epochs: int,
    learning_rate: float,
    weights_rate: float,
    sampling: Sampling,
) -> tuple[Pass, list[Pass]]:
    """Alternate a step of coefficients on one half of train and one of weights on the other.

    Ingredient i moves by -weights_rate * alpha_i * G, where G is the gradient of the mixture.

    Args:
        mixture: the models, whose weights change.
        halves: the losses on both halves of train.
        score: weights -> their score on val, which chooses between epochs.
        epochs: number of epochs.
        learning_rate: of Adam, for the logits of coefficients.
        weights_rate: of SGD, for the weights; 0 leaves them as they are.
        sampling: map from logits to coefficients.

    Returns:
        The first epoch with the highest score, and all epochs in order.

    Raises:
        InputError: a loss is not finite.
    """
    raw = torch.zeros(mixture.shape, dtype=torch.float64)
    optimizer = Adam([raw], lr=learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY)

    def state_after(number: int, *losses: float) -> Pass:
        rows = mixture.rows(sampling.settled(raw))
        weights = mixture.weights(rows)
        return Pass(number, rows, weights, score(weights), *losses)

    best = state_after(0)
    done, step = [replace(best, weights={})], count()
    for number in range(1, epochs + 1):
        progress = (number - 1) / max(1, epochs - 1)
        of_weights, of_coefficients = [], []
        for for_weights, for_coefficients in halves.pairs(number):
            drawn = sampling.draw(raw, next(step), progress)
            loss, gradient = _gradient(mixture, drawn.alpha, for_coefficients, number)
            of_coefficients.append(loss)
            raw.grad = drawn.pull_back(mixture.pull_back(gradient))
            optimizer.step()
            drawn = sampling.draw(raw, next(step), progress)
            loss, gradient = _gradient(mixture, drawn.alpha, for_weights, number)
            of_weights.append(loss)
            mixture.descend(gradient, weights_rate * drawn.alpha)
        latest = state_after(number, fmean(of_weights), fmean(of_coefficients))
        done.append(replace(latest, weights={}))
        best = max(best, latest, key=lambda epoch: epoch.score)
    return best, done


def _gradient(
    mixture: Mixture, alpha: torch.Tensor, objective: Objective, number: int
) -> tuple[float, StateDict]:
    """Return the loss of the mixture and its gradient."""
    loss, gradient, _ = objective(mixture.weights(mixture.rows(alpha)), 1.0)
    if not math.isfinite(loss):
        raise InputError(
            f"search and merge: the loss must be finite, got {loss} in epoch {number}; "
            "lower weights_rate or learning_rate"
        )
    return loss, gradient
