"""Search and merge: the weights on one half of train, the coefficients on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.soups.tuning.bilevel import Pass, search_and_merge
from stockpot.soups.tuning.mixtures import Mixture
from stockpot.soups.tuning.samplings import SAMPLINGS, Darts, Sampling

State = dict[str, Tensor]
Loss = Callable[[State, float], tuple[float, State, float]]

A, B = torch.tensor([0.0, 0.0]), torch.tensor([4.0, 0.0])


def _towards(target: Tensor, *, scale: float = 1.0) -> Loss:
    """Return half the squared distance from a target as a loss of the tensor `w`."""

    def loss(weights: State, beta: float) -> tuple[float, State, float]:  # noqa: ARG001
        gap = weights["w"] - target
        return scale * 0.5 * float(gap @ gap), {"w": scale * gap}, 0.0

    return loss


def _search(
    for_weights: Loss,
    for_coefficients: Loss,
    *,
    sampling: Sampling | None = None,
    steps: int = 4,
    **how: float,
) -> tuple[Pass, list[Pass], Mixture]:
    def pairs(number: int) -> Iterator[tuple[Loss, Loss]]:  # noqa: ARG001
        yield from [(for_weights, for_coefficients)] * steps

    mixture = Mixture([{"w": A.clone()}, {"w": B.clone()}], "layer")
    options = {"epochs": 1, "learning_rate": 0.05, "weights_rate": 0.1} | how
    best, done = search_and_merge(
        mixture,
        SimpleNamespace(pairs=pairs),
        lambda weights: -_towards(torch.tensor([1.0, 1.0]))(weights, 1.0)[0],
        sampling=sampling or Darts(),
        **options,  # type: ignore[arg-type]
    )
    return best, done, mixture


def test_without_rates_it_is_the_uniform_soup() -> None:
    target = torch.tensor([1.0, 1.0])

    best, done, _ = _search(_towards(target), _towards(target), learning_rate=0, weights_rate=0)

    assert best.rows == done[1].rows == {"w": (0.5, 0.5)}
    assert torch.equal(best.weights["w"], torch.tensor([2.0, 0.0]))
    assert (best.number, len(done)) == (0, 2)


def test_a_step_of_weights_is_that_of_sgd_scaled_by_the_coefficients() -> None:
    target = torch.tensor([1.0, 1.0])

    _, _, mixture = _search(_towards(target), _towards(target), steps=1, learning_rate=0)

    # The mixture (2, 0) has the gradient (1, -1); each ingredient moves by 0.1 / 2 against it.
    moved = mixture.weights({"w": (1.0, 0.0)})["w"], mixture.weights({"w": (0.0, 1.0)})["w"]
    torch.testing.assert_close(moved[0], torch.tensor([-0.05, 0.05]))
    torch.testing.assert_close(moved[1], torch.tensor([3.95, 0.05]))


def test_coefficients_see_their_half_alone_and_weights_the_other() -> None:
    flat = _towards(A, scale=0.0)

    _, (_, towards_a), still = _search(flat, _towards(A), weights_rate=1.0, learning_rate=0.1)
    _, (_, unmoved), _ = _search(_towards(A), flat, learning_rate=0.1)

    assert towards_a.rows["w"][0] > 0.6
    assert torch.equal(still.weights({"w": (0.0, 1.0)})["w"], B)
    assert unmoved.rows["w"] == pytest.approx((0.5, 0.5))


def test_coefficients_reach_the_nearest_point_of_the_segment() -> None:
    flat, target = _towards(A, scale=0.0), torch.tensor([1.0, 3.0])

    best, _, _ = _search(flat, _towards(target), steps=400, learning_rate=0.05)

    assert best.rows["w"][1] == pytest.approx(0.25, abs=0.01)  # <t - a, b - a> / |b - a|^2


def test_one_sampled_ingredient_per_layer_alone_is_trained() -> None:
    target = torch.tensor([1.0, 1.0])

    _, _, mixture = _search(
        _towards(target), _towards(target), sampling=SAMPLINGS["gdas"](0), steps=1, learning_rate=0
    )

    unmoved = [
        torch.equal(mixture.weights({"w": row})["w"], start)
        for row, start in (((1.0, 0.0), A), ((0.0, 1.0), B))
    ]
    assert sorted(unmoved) == [False, True]


def test_ingredients_that_were_given_do_not_change() -> None:
    given = [{"w": A.clone()}, {"w": B.clone()}]
    mixture = Mixture(given, "model")

    mixture.descend({"w": torch.ones(2)}, torch.ones(1, 2))

    assert torch.equal(given[1]["w"], B)


def test_for_one_linear_layer_mixed_weights_are_mixed_outputs() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 3, generator=generator) for _ in range(2))
    inputs = torch.randn(5, 3, generator=generator)

    merged = merge_states([{"w": first}, {"w": second}], Recipe("linear", (0.3, 0.7)))["w"]

    mixed = 0.3 * inputs @ first.T + 0.7 * inputs @ second.T
    torch.testing.assert_close(inputs @ merged.T, mixed)
    bent = 0.3 * (inputs @ first.T).tanh() + 0.7 * (inputs @ second.T).tanh()
    assert not torch.allclose((inputs @ merged.T).tanh(), bent, atol=1e-3)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="loss must be finite, got inf in epoch 1; lower"):
        _search(_towards(A, scale=float("inf")), _towards(A))
