from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from stockpot.soups.tuning.adamerging import Pass, merge_adaptively
from stockpot.soups.tuning.mixtures import Mixture

State = dict[str, Tensor]

BASE = {"a.weight": torch.zeros(2), "b.weight": torch.zeros(2)}
STATES = [
    {"a.weight": torch.tensor([1.0, 0.0]), "b.weight": torch.tensor([0.0, 1.0])},
    {"a.weight": torch.tensor([0.0, 1.0]), "b.weight": torch.tensor([1.0, 0.0])},
]


def _search(slopes: State, entropies: list[float], **settings: float) -> tuple[Pass, list[Pass]]:
    """Search with a loss that is linear in the weights, three batches a pass."""
    left = iter(entropies)

    val = SimpleNamespace(
        batches=lambda _number: [lambda _weights, _beta: (0.0, slopes, 0.0)] * 3,
        class_entropy=lambda _weights: next(left),
    )
    return merge_adaptively(
        Mixture(STATES, "layer", BASE),
        val,
        start=settings.get("start", 0.3),
        learning_rate=settings.get("learning_rate", 1e-3),
        steps=int(settings.get("steps", 6)),
    )


# dL/dcoefficient is the inner product with the task vector: only a's first, b's second count.
SLOPES = {"a.weight": torch.tensor([2.0, 0.0]), "b.weight": torch.tensor([0.0, -3.0])}


def test_each_step_moves_a_coefficient_by_the_learning_rate_against_its_gradient() -> None:
    best, passes = _search(SLOPES, [1.0, 1.0, 1.0])

    assert best == passes[-1]
    assert best.rows["a"] == pytest.approx((0.3 - 6e-3, 0.3))
    assert best.rows["b"] == pytest.approx((0.3 + 6e-3, 0.3))


def test_coefficients_stay_between_zero_and_one() -> None:
    best, _passes = _search(SLOPES, [1.0, 1.0, 1.0], learning_rate=0.5)

    assert best.rows == {"a": (0.0, 0.3), "b": (1.0, 0.3)}


def test_the_last_pass_ends_where_the_steps_do() -> None:
    _best, passes = _search(SLOPES, [1.0, 1.0, 1.0], steps=4)

    assert [done.number for done in passes] == [0, 1, 2]
    assert passes[2].rows["a"] == pytest.approx((0.3 - 4e-3, 0.3))


def test_a_collapse_of_the_predicted_classes_ends_the_search_with_the_pass_before() -> None:
    best, passes = _search(SLOPES, [1.0, 0.5, 0.49], steps=100)

    assert len(passes) == 3
    assert best is passes[1]


def test_the_same_search_has_the_same_bits() -> None:
    assert _search(SLOPES, [1.0] * 3) == _search(SLOPES, [1.0] * 3)
