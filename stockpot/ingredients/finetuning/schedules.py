"""Learning rates along a run: a warmup, and what follows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters

_FIRST_OF_CYCLE = 1 / 25  # of the highest, as in fastai and torch
_LAST_OF_CYCLE = _FIRST_OF_CYCLE / 1e4


def learning_rate_at(step: int, total: int, how: Hyperparameters) -> float:
    """Return the learning rate of `step` (from 0) of a run of `total` steps."""
    return how.learning_rate * SCHEDULES[how.schedule](step, total, how)


def constant(step: int, total: int, how: Hyperparameters) -> float:
    """Return the share of the highest rate: a linear warmup, then 1.

    It is not annealed: ingredients that are still moving around a minimum differ in ways that
    their average cancels (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, section 3).
    On digits, six seeds, all else equal: the uniform soup gains 5.2 points over the mean
    ingredient under shift, with a cosine to 0 it gains 0.5. The price is that a single
    ingredient is worse: the best one is 1.0 points below the best annealed one. So of the 3.8
    points by which the greedy soup's lead over its best ingredient is larger, 1.0 is a weaker
    rival; the greedy soup itself is 2.8 points better.
    """
    return _risen(step, total, how.warmup)


def linear(step: int, total: int, how: Hyperparameters) -> float:
    """Return the share: a linear warmup, then a straight line to 0.

    What pruned models are retrained with, from the rate they were trained with (Zimmer et al.
    2023, https://arxiv.org/abs/2111.00843).
    """
    return _risen(step, total, how.warmup) * (1 - _progress(step, total, how.warmup))


def cosine(step: int, total: int, how: Hyperparameters) -> float:
    """Return the share: a linear warmup, then half a cosine to 0.

    Source: Loshchilov & Hutter 2017, equation 5 (https://arxiv.org/abs/1608.03983).
    """
    return _risen(step, total, how.warmup) * _cosine(_progress(step, total, how.warmup))


def cosine_power(step: int, total: int, how: Hyperparameters) -> float:
    """Return the share: a linear warmup, then (p^c - 1) / (p - 1) of the cosine's share c.

    p, the `schedule_power`, near 1 gives the cosine; a larger one falls sooner, and more slowly
    at the end. Source: Hundt et al. 2019, sharpDARTS (https://arxiv.org/abs/1903.09900).
    """
    falling, p = _cosine(_progress(step, total, how.warmup)), how.schedule_power
    if p > 1:  # expm1 keeps the digits that p^c - 1 loses where p is near 1
        falling = math.expm1(falling * math.log(p)) / math.expm1(math.log(p))
    return _risen(step, total, how.warmup) * falling


def one_cycle(step: int, total: int, how: Hyperparameters) -> float:
    """Return the share: half a cosine up from 1/25, and one down to almost 0.

    It rises during the `warmup`, for which the authors take 0.3 and more. The momentum does not
    move. Source: Smith & Topin 2018 (https://arxiv.org/abs/1708.07120), as in torch.
    """
    top = max(0.0, how.warmup * total - 1)
    if step < top:
        return 1 + (_FIRST_OF_CYCLE - 1) * _cosine(step / top)
    since = (step - top) / max(1.0, total - 1 - top)
    return _LAST_OF_CYCLE + (1 - _LAST_OF_CYCLE) * _cosine(since)


SCHEDULES: Mapping[str, Callable[[int, int, Hyperparameters], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "cosine_power": cosine_power,
    "one_cycle": one_cycle,
}


def _risen(step: int, total: int, warmup: float) -> float:
    """Return how much of a linear warmup is done after a step."""
    return min(1.0, (step + 1) / max(1, round(warmup * total)))


def _progress(step: int, total: int, warmup: float) -> float:
    """Return how much of what follows the warmup is done before a step, in [0, 1)."""
    first = round(warmup * total)
    return max(0, step - first) / max(1, total - first)


def _cosine(progress: float) -> float:
    """Fall from 1 to 0."""
    return (1 + math.cos(math.pi * progress)) / 2
