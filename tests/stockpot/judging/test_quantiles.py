from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_pinball_loss

from stockpot.judging.quantiles import aggregate_quantiles, pinball_losses

LEVELS = torch.tensor([0.1, 0.5, 0.9]).double()
NUMBERS = st.floats(-100, 100, allow_subnormal=False)


@given(st.lists(NUMBERS, min_size=3, max_size=3), NUMBERS)
def test_sorting_never_raises_the_pinball_loss(quantiles: list[float], target: float) -> None:
    outputs, targets = torch.tensor([quantiles]).double(), torch.tensor([target]).double()

    ordered = aggregate_quantiles([outputs], torch.ones(1).double())

    before = pinball_losses(outputs, targets, LEVELS)
    assert (pinball_losses(ordered, targets, LEVELS) <= before + 1e-9).all()
    assert (ordered.diff(dim=1) >= 0).all()


def test_the_loss_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 3, generator=generator).double()
    targets = torch.randn(50, generator=generator).double()

    losses = pinball_losses(outputs, targets, LEVELS)

    theirs = [
        mean_pinball_loss(targets, outputs[:, column], alpha=level)
        for column, level in enumerate(LEVELS.tolist())
    ]
    assert losses.mean().item() == pytest.approx(sum(theirs))


def test_the_loss_by_hand() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0, 5.0]]).double(), torch.tensor([3.0]).double()

    losses = pinball_losses(outputs, targets, LEVELS)

    assert losses.tolist() == pytest.approx([0.1 * 2 + 0.5 * 1 + 0.1 * 2])


def test_weights_of_models_and_of_levels() -> None:
    outputs = [torch.tensor([[0.0, 2.0, 4.0]]), torch.tensor([[1.0, 1.0, 10.0]])]

    of_models = aggregate_quantiles(outputs, torch.tensor([0.25, 0.75]))
    of_levels = aggregate_quantiles(outputs, torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]))

    assert of_models.tolist() == [[0.75, 1.25, 8.5]]
    assert of_levels.tolist() == [[0.0, 1.5, 10.0]]
