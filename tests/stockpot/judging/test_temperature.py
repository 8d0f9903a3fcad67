from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.judging.temperature import HIGHEST, LOWEST, fit_temperature
from stockpot.scoring.metrics.classification import nll_per_example


def _drawn(seed: int, size: int = 300, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Draw logits, and targets from the very probabilities that these say."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, classes, generator=generator)
    return logits, logits.softmax(dim=1).multinomial(1, generator=generator).flatten()


def _nll(logits: Tensor, targets: Tensor) -> float:
    return nll_per_example(logits, targets).mean().item()


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_logits_that_were_scaled_get_the_scale_as_temperature(factor: float) -> None:
    logits, targets = _drawn(0, 20_000)

    assert fit_temperature(factor * logits, targets) == pytest.approx(factor, rel=0.03)


def test_the_temperature_is_the_best_of_a_grid() -> None:
    logits, targets = _drawn(1)

    temperature = fit_temperature(logits, targets)

    grid = torch.logspace(-1, 1, 401).tolist()
    best = min(grid, key=lambda t: _nll(logits / t, targets))
    assert temperature == pytest.approx(best, rel=0.02)
    assert _nll(logits / temperature, targets) <= min(_nll(logits / t, targets) for t in grid)


@given(seed=st.integers(0, 200), size=st.integers(1, 30), scale=st.floats(0.01, 100))
def test_it_never_worsens_the_fit_nor_changes_a_prediction(
    seed: int, size: int, scale: float
) -> None:
    logits, targets = _drawn(seed, size)
    logits = scale * logits

    temperature = fit_temperature(logits, targets)

    assert LOWEST <= temperature <= HIGHEST
    assert _nll(logits / temperature, targets) <= _nll(logits, targets) + 1e-12
    assert torch.equal((logits / temperature).argmax(dim=1), logits.argmax(dim=1))


def test_a_model_without_mistakes_is_sharpened_only_to_the_bound() -> None:
    targets = torch.tensor([0, 1, 1])
    logits = torch.nn.functional.one_hot(targets, 2).float()

    assert fit_temperature(logits, targets) == pytest.approx(LOWEST, rel=1e-4)


def test_logits_that_say_nothing_stay_as_they_are() -> None:
    assert fit_temperature(torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1])) == 1
