from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stockpot.judging.stacking import class_weights, fit_mixture, model_weights


def _log_probabilities(seed: int, models: int = 4, size: int = 60) -> tuple[Tensor, Tensor]:
    """Draw models of which each knows the targets to another degree."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (size,), generator=generator)
    logits = torch.randn(models, size, 3, generator=generator).double()
    hint = torch.nn.functional.one_hot(targets, 3).double()
    strengths = 2 * torch.rand(models, 1, 1, generator=generator).double()
    return (logits + strengths * hint).log_softmax(dim=2), targets


def _likelihoods(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    return log_probabilities[:, torch.arange(len(targets)), targets]


def _nll(weights: Tensor, log_likelihoods: Tensor) -> float:
    return -(weights @ log_likelihoods.exp()).log().mean().item()


@given(seed=st.integers(0, 200), models=st.integers(1, 8), size=st.integers(1, 40))
def test_weights_are_where_no_change_lowers_the_loss(seed: int, models: int, size: int) -> None:
    log_likelihoods = _likelihoods(*_log_probabilities(seed, models, size))

    weights = fit_mixture(log_likelihoods)

    assert weights.sum().item() == pytest.approx(1)
    assert (weights >= 0).all()
    # The optimum of a convex loss on the simplex: no model's slope is below that of the mixture.
    likelihoods = log_likelihoods.exp()
    slopes = -(likelihoods / (weights @ likelihoods)).mean(dim=1)
    assert slopes.min().item() >= -1 - 1e-3
    uniform = torch.full((models,), 1 / models).double()
    best_single = -log_likelihoods.mean(dim=1).max().item()
    assert _nll(weights, log_likelihoods) <= min(best_single, _nll(uniform, log_likelihoods)) + 1e-4


def test_the_optimum_is_that_of_expectation_maximisation() -> None:
    log_likelihoods = _likelihoods(*_log_probabilities(3))
    likelihoods, weights = log_likelihoods.exp(), torch.full((4,), 0.25).double()
    for _ in range(5000):
        weights = weights * (likelihoods / (weights @ likelihoods)).mean(dim=1)

    torch.testing.assert_close(fit_mixture(log_likelihoods), weights, rtol=0, atol=1e-3)


def test_one_model_has_all_the_weight() -> None:
    assert fit_mixture(torch.tensor([[-1.0, -2.0]])).tolist() == [1.0]


@pytest.mark.parametrize("models", [2, 3, 16])
def test_identical_models_have_equal_weights(models: int) -> None:
    log_likelihoods = torch.tensor([-1.0, -0.1, -3.0]).expand(models, -1)

    weights = fit_mixture(log_likelihoods)

    torch.testing.assert_close(weights, torch.full((models,), 1 / models).double())


def test_a_model_that_is_always_better_has_all_the_weight() -> None:
    weights = fit_mixture(torch.tensor([[-5.0, -4.0, -6.0], [-0.5, -0.4, -0.6]]))

    torch.testing.assert_close(weights, torch.tensor([0.0, 1.0]).double(), rtol=0, atol=1e-6)


def test_likelihoods_of_0_do_no_harm() -> None:
    sure_and_wrong = torch.tensor([[-1e4, -0.1], [-0.1, -1e4], [-1e5, -1e5]])

    weights = fit_mixture(sure_and_wrong)

    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5, 0]).double(), rtol=0, atol=1e-4)


def test_weights_of_models_are_fitted_to_the_targets() -> None:
    log_probabilities, targets = _log_probabilities(1)

    weights = model_weights(log_probabilities, targets)

    assert weights.shape == (4, 1)
    expected = fit_mixture(_likelihoods(log_probabilities, targets))
    assert torch.equal(weights[:, 0], expected)


def test_weights_of_a_class_are_the_best_for_the_class_or_not() -> None:
    log_probabilities, targets = _log_probabilities(2)
    shares = log_probabilities.exp()

    weights = class_weights(log_probabilities, targets)

    assert weights.shape == (4, 3)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(3).double())
    for number in range(3):
        is_class = targets == number
        likelihoods = shares[:, :, number].where(is_class, 1 - shares[:, :, number]).log()
        loss = _nll(weights[:, number], likelihoods)
        others = [*torch.eye(4).double(), torch.full((4,), 0.25).double(), weights[:, number - 1]]
        assert all(loss <= _nll(other, likelihoods) + 1e-4 for other in others)


def test_each_class_can_have_an_expert_of_its_own() -> None:
    targets = torch.tensor([0, 0, 1, 1, 2, 2])
    right = torch.nn.functional.one_hot(targets, 3).double()
    even = torch.full((6, 3), 1 / 3).double()
    # Model k tells class k from the others, and knows nothing else.
    experts = torch.stack([even.clone() for _ in range(3)])
    for number in range(3):
        experts[number] = torch.where(targets[:, None] == number, 0.9 * right + 0.1 / 3, even)
        rest = torch.where(torch.arange(3) == number, 0.02, 0.49).double()
        experts[number][targets != number] = rest

    weights = class_weights(experts.log(), targets)

    assert weights.argmax(dim=0).tolist() == [0, 1, 2]
