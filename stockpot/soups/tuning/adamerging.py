"""AdaMerging (Yang et al. 2024, https://arxiv.org/abs/2310.02575): coefficients without labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch.optim import Adam

from stockpot.soups.tuning.mixtures import Mixture, Rows
from stockpot.soups.tuning.search import UnlabelledEntropies


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


def merge_adaptively(
    mixture: Mixture,
    val: UnlabelledEntropies,
    *,
    start: float,
    learning_rate: float,
    steps: int,
) -> tuple[Pass, list[Pass]]:
    """Minimize the entropy of predictions over the coefficients of task vectors.

    The minimum is a collapse to one class for every input: if the entropy of the distribution of
    predicted classes falls below half of its initial value, the search stops and the previous pass
    is used.

    Args:
        mixture: the task vectors and their base.
        val: the entropies of predictions on val.
        start: initial value of all coefficients, in [0, 1].
        learning_rate: of Adam.
        steps: number of batches, over all passes.

    Returns:
        The last pass that did not collapse, and all passes in order.

    Source: equation 3, and the authors' code (0.3, 1e-3, 500 steps, coefficients clamped to
    [0, 1]); stopping at a collapse is an addition.
    """
    coefficients = torch.full(mixture.shape, start, dtype=torch.float64)
    optimizer = Adam([coefficients], lr=learning_rate)

    def state_after(number: int) -> Pass:
        rows = mixture.rows(coefficients)
        return Pass(number, rows, val.class_entropy(mixture.weights(rows)))

    passes, num_done = [state_after(0)], 0
    while num_done < steps:
        number = len(passes)
        for entropy in islice(val.batches(number), steps - num_done):
            _, gradient, _ = entropy(mixture.weights(mixture.rows(coefficients)), 1.0)
            coefficients.grad = mixture.pull_back(gradient)
            optimizer.step()
            coefficients.clamp_(0.0, 1.0)
            num_done += 1
        passes.append(state_after(number))
        if passes[-1].class_entropy < passes[0].class_entropy / 2:
            return passes[-2], passes
    return passes[-1], passes
