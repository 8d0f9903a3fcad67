"""AdaMerging (Yang et al. 2024, https://arxiv.org/abs/2310.02575): coefficients without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch.optim import Adam

from stockpot.merging.states import StateDict
from stockpot.soups.tuning.mixtures import Mixture, Rows

Entropy = Callable[[StateDict], tuple[float, StateDict]]
"""Weights -> the mean entropy of predictions on a batch, and its gradient for the weights."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The state after one pass over the inputs.

    Attributes:
        number: number of the pass; 0 is the start.
        rows: the coefficients of each group of tensors, in [0, 1].
        class_entropy: entropy of the distribution of predicted classes, in nats.
    """

    number: int
    rows: Rows
    class_entropy: float


@dataclass(frozen=True, slots=True)
class AdaMerged:
    """The outcome of a search.

    Attributes:
        best: the last pass that did not collapse.
        passes: all passes, in order.
        is_collapsed: whether the search stopped early since predictions collapsed to few classes.
    """

    best: Pass
    passes: list[Pass]
    is_collapsed: bool


def merge_adaptively(
    mixture: Mixture,
    batches: Callable[[int], Iterable[Entropy]],
    class_entropy: Callable[[StateDict], float],
    *,
    start: float,
    learning_rate: float,
    steps: int,
) -> AdaMerged:
    """Minimize the entropy of predictions over the coefficients of task vectors.

    The minimum is a collapse to one class for every input: if the entropy of the distribution of
    predicted classes falls below half of its initial value, the search stops and the previous pass
    is used.

    Args:
        mixture: the task vectors and their base.
        batches: number of a pass, from 1 -> the entropy on each of its batches.
        class_entropy: weights -> the entropy of the distribution of predicted classes.
        start: initial value of all coefficients, in [0, 1].
        learning_rate: of Adam.
        steps: number of batches, over all passes.

    Source: equation 3, and the authors' code (0.3, 1e-3, 500 steps, coefficients clamped to
    [0, 1]); stopping at a collapse is an addition.
    """
    coefficients = torch.full(mixture.shape, start, dtype=torch.float64)
    optimizer = Adam([coefficients], lr=learning_rate)

    def state_after(number: int) -> Pass:
        rows = mixture.rows(coefficients)
        return Pass(number, rows, class_entropy(mixture.weights(rows)))

    passes, num_done = [state_after(0)], 0
    while num_done < steps:
        number = len(passes)
        for entropy in islice(batches(number), steps - num_done):
            _, gradient = entropy(mixture.weights(mixture.rows(coefficients)))
            coefficients.grad = mixture.pull_back(gradient)
            optimizer.step()
            coefficients.clamp_(0.0, 1.0)
            num_done += 1
        passes.append(state_after(number))
        if passes[-1].class_entropy < passes[0].class_entropy / 2:
            return AdaMerged(passes[-2], passes, is_collapsed=True)
    return AdaMerged(passes[-1], passes, is_collapsed=False)
