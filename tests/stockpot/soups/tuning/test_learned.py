from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.soups.tuning.learned import Epoch, learn_coefficients
from stockpot.soups.tuning.mixtures import Mixture
from stockpot.soups.tuning.samplings import SAMPLINGS, Darts, through_softmax

State = dict[str, Tensor]
Judged = tuple[float, float, float]
Loss = Callable[[State, float], tuple[float, State, float]]

_drawn = torch.Generator().manual_seed(4)
INPUTS = torch.randn(40, 3, generator=_drawn)
TARGETS = INPUTS.argmax(dim=1)


def _states(num_models: int) -> list[State]:
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "first.weight": torch.eye(3) + torch.randn(3, 3, generator=generator),
            "second.weight": torch.eye(3) + torch.randn(3, 3, generator=generator),
        }
        for _ in range(num_models)
    ]


def _cross_entropy(weights: State, beta: Tensor | float) -> Tensor:
    hidden = (INPUTS @ weights["first.weight"].t()).tanh()
    return functional.cross_entropy(beta * (hidden @ weights["second.weight"].t()), TARGETS)


def _loss(weights: State, beta: float) -> tuple[float, State, float]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    scale = torch.tensor(beta, requires_grad=True)
    value = _cross_entropy(leaves, scale)
    slope, *slopes = torch.autograd.grad(value, [scale, *leaves.values()])
    return value.item(), dict(zip(leaves, slopes, strict=True)), slope.item()


def _batches(epoch: int) -> Iterator[Loss]:  # noqa: ARG001 (all of the data, each time)
    yield from [_loss] * 4


def _judge(weights: State, beta: float) -> Judged:
    loss = _cross_entropy(weights, beta).item()
    return -loss, loss, loss


def _learn(
    states: list[State],
    per: str = "layer",
    epochs: int = 5,
    batches: Callable[[int], Iterator[Loss]] = _batches,
    judge: Callable[[State, float], Judged] = _judge,
) -> tuple[Epoch, list[Epoch]]:
    return learn_coefficients(
        Mixture(states, per),
        SimpleNamespace(batches=batches, judge=judge),
        epochs=epochs,
        learning_rate=0.05,
        sampling=Darts(),
    )


def test_the_start_is_the_uniform_soup() -> None:
    states = _states(3)

    _, (start, _end) = _learn(states, epochs=1)

    uniform = merge_states(states, Recipe("linear", (1.0, 1.0, 1.0)))
    assert start.rows == {"first": (1 / 3,) * 3, "second": (1 / 3,) * 3}
    assert start.beta == 1
    torch.testing.assert_close(Mixture(states, "layer").weights(start.rows), uniform)


def test_fitting_lowers_the_loss_and_the_best_epoch_is_used() -> None:
    best, epochs = _learn(_states(4))

    losses = [epoch.loss for epoch in epochs]
    assert losses == sorted(losses, reverse=True)
    assert best == epochs[5]
    assert [epoch.number for epoch in epochs] == list(range(6))


@pytest.mark.parametrize("per", ["model", "layer", "tensor"])
def test_every_row_of_every_epoch_sums_to_one(per: str) -> None:
    _best, epochs = _learn(_states(4), per)

    sums = [sum(row) for epoch in epochs for row in epoch.rows.values()]

    assert sums == pytest.approx([1.0] * len(sums))


def test_equal_ingredients_keep_equal_coefficients() -> None:
    state = _states(1)[0]

    _best, epochs = _learn([state] * 3)

    assert epochs[-1].beta != 1
    for row in epochs[-1].rows.values():
        assert row == pytest.approx((1 / 3,) * 3, abs=1e-7)


def test_one_ingredient_learns_its_temperature_and_nothing_else() -> None:
    state = _states(1)[0]

    best, _epochs = _learn([state], per="model", epochs=60)

    # Temperature scaling (Guo et al. 2017): the minimum over beta alone, by a fine grid.
    grid = torch.linspace(0.01, 4.0, 400)
    scaled = grid[torch.stack([_cross_entropy(state, beta) for beta in grid]).argmin()].item()
    assert best.rows == {"model": (1.0,)}
    assert best.beta == pytest.approx(scaled, abs=0.02)


def test_the_gradient_through_softmax_is_that_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    slopes = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    alpha = raw.softmax(dim=1)

    ours = through_softmax(alpha.detach(), slopes)

    (expected,) = torch.autograd.grad((alpha * slopes).sum(), raw)
    torch.testing.assert_close(ours, expected)


def test_the_gradient_for_the_free_numbers_is_that_of_finite_differences() -> None:
    states = [{name: t.double() for name, t in state.items()} for state in _states(3)]
    mixture = Mixture(states, "layer")
    raw = torch.tensor([[0.1, -0.4, 0.3], [0.0, 0.5, -0.2]], dtype=torch.float64)

    def value(numbers: Tensor) -> float:
        weights = mixture.weights(mixture.rows(numbers.softmax(dim=1)))
        hidden = (INPUTS.double() @ weights["first.weight"].t()).tanh()
        return functional.cross_entropy(hidden @ weights["second.weight"].t(), TARGETS).item()

    alpha = raw.softmax(dim=1)
    leaves = {
        name: tensor.clone().requires_grad_()
        for name, tensor in mixture.weights(mixture.rows(alpha)).items()
    }
    hidden = (INPUTS.double() @ leaves["first.weight"].t()).tanh()
    loss = functional.cross_entropy(hidden @ leaves["second.weight"].t(), TARGETS)
    slopes = torch.autograd.grad(loss, list(leaves.values()))
    ours = through_softmax(alpha, mixture.pull_back(dict(zip(leaves, slopes, strict=True))))

    steps = 1e-5 * torch.eye(6, dtype=torch.float64).view(6, 2, 3)
    expected = [(value(raw + step) - value(raw - step)) / 2e-5 for step in steps]
    torch.testing.assert_close(
        ours.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-9
    )


def _quadratic(weights: State, beta: float) -> tuple[float, State, float]:  # noqa: ARG001 (unused)
    """Half the squared distance from a first layer of the third and a second layer of the first."""
    states = _states(3)
    targets = {"first.weight": states[2], "second.weight": states[0]}
    away = {name: weights[name] - targets[name][name] for name in weights}
    return sum(float((t * t).sum()) / 2 for t in away.values()), away, 0.0


@pytest.mark.parametrize("sampling", ["drnas", "gdas"])
def test_draws_lead_to_the_ingredients_that_are_best(sampling: str) -> None:
    def judge(weights: State, beta: float) -> Judged:
        loss = _quadratic(weights, beta)[0]
        return -loss, loss, loss

    best, epochs = learn_coefficients(
        Mixture(_states(3), "layer"),
        SimpleNamespace(batches=lambda _epoch: [_quadratic] * 40, judge=judge),
        epochs=10,
        learning_rate=0.1,
        sampling=SAMPLINGS[sampling](0),
    )

    first, second = epochs[-1].rows["first"], epochs[-1].rows["second"]
    assert epochs[0].rows["first"] == pytest.approx((1 / 3,) * 3)
    assert (first.index(max(first)), second.index(max(second))) == (2, 0)
    assert min(max(first), max(second)) > 0.9
    assert best.loss < epochs[0].loss


def test_equal_scores_keep_the_epoch_with_the_lower_loss_and_then_the_earlier_one() -> None:
    losses = iter([0.5, 0.4, 0.4, 0.6])

    def judge(weights: State, beta: float) -> Judged:  # noqa: ARG001 (made up)
        return 0.9, next(losses), 0.1

    best, _epochs = _learn(_states(2), epochs=3, judge=judge)

    assert best.number == 1


def test_the_same_fit_has_the_same_bits() -> None:
    assert _learn(_states(4)) == _learn(_states(4))


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    def batches(epoch: int) -> Iterator[Loss]:
        yield lambda weights, beta: (float("nan") * epoch, weights, beta)

    with pytest.raises(InputError) as caught:
        _learn(_states(2), batches=batches)

    assert str(caught.value) == (
        "learned soup: the loss must be finite, got nan in epoch 1; lower learning_rate"
    )
