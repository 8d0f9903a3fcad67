from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.diagnostics.cka import kernel


def cka(first: Tensor, second: Tensor) -> float:
    return float(kernel(first) @ kernel(second))


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _rotation(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(_normal(size, size, seed=seed))[0]


def test_a_representation_is_wholly_like_itself() -> None:
    features = _normal(20, 5)

    assert cka(features, features) == pytest.approx(1, abs=1e-12)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(1, 12),
    scale=st.floats(1e-3, 1e3),
)
def test_rotation_scale_and_shift_change_nothing(seed: int, size: int, scale: float) -> None:
    first, second = _normal(10, size, seed=seed), _normal(10, 7, seed=seed + 1)
    turned = scale * first @ _rotation(size, seed + 2) + _normal(size, seed=seed + 3)

    expected = cka(first, second)

    assert cka(turned, second) == pytest.approx(expected, abs=1e-8)


def test_other_linear_maps_do_change_it() -> None:
    features = _normal(50, 2)
    stretched = features * torch.tensor([1.0, 10.0])

    assert cka(features, stretched) < 0.9


def test_wide_independent_representations_are_unlike() -> None:
    pairs = [(_normal(64, 512, seed=n), _normal(64, 512, seed=n + 1)) for n in range(0, 40, 2)]

    found = torch.tensor([cka(*pair) for pair in pairs])

    assert abs(found.mean()) < 3 * found.std() / len(pairs) ** 0.5


def test_dependence_is_the_unbiased_estimate_by_its_formula() -> None:
    first, second = _normal(6, 3), _normal(6, 4, seed=1)
    grams = [x @ x.T for x in (first, second)]

    def dependence(k: Tensor, l: Tensor) -> Tensor:  # noqa: E741 (the symbols of the paper)
        n, ones = len(k), torch.ones(len(k), dtype=torch.float64)
        k, l = (m - m.diag().diag() for m in (k, l))  # noqa: E741
        total = (k @ l).trace() + ones @ k @ ones * (ones @ l @ ones) / ((n - 1) * (n - 2))
        return (total - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3))

    expected = dependence(*grams) / (dependence(*grams[:1] * 2) * dependence(*grams[1:] * 2)).sqrt()

    assert cka(first, second) == pytest.approx(float(expected))


def test_a_layer_that_is_constant_is_like_nothing() -> None:
    constant = torch.full((8, 3), 0.1)

    assert cka(constant, _normal(8, 3).float()) == 0
    assert cka(constant, constant) == 0


def test_features_of_any_shape_and_scale_are_compared_in_single_precision() -> None:
    features = _normal(12, 3, 2, 2).float()

    assert cka(1e-20 * features, 1e20 * features) == pytest.approx(1, abs=1e-6)
    assert kernel(features).shape == (144,)


def test_too_few_examples_are_refused() -> None:
    kernel(_normal(4, 2))

    with pytest.raises(ValueError, match="needs 4 examples or more, got 3"):
        kernel(_normal(3, 2))
