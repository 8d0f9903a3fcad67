from __future__ import annotations

import math

import pytest
import torch

from stockpot.scoring.metrics.language_model import NO_TOKEN, perplexity


def test_a_model_that_guesses_among_8_words_has_perplexity_8() -> None:
    losses = torch.full((3, 5), math.log(8))

    assert perplexity(losses, torch.zeros(3, 5, dtype=torch.long)) == pytest.approx(8)


def test_every_token_that_counts_has_the_same_weight() -> None:
    losses = torch.tensor([[1.0, 2.0, 3.0], [6.0, 99.0, 99.0]])
    targets = torch.tensor([[4, 5, 6], [7, NO_TOKEN, NO_TOKEN]])

    assert perplexity(losses, targets) == pytest.approx(math.exp((1 + 2 + 3 + 6) / 4))


def test_no_token_has_no_perplexity() -> None:
    assert math.isnan(perplexity(torch.ones(1, 2), torch.full((1, 2), NO_TOKEN)))
