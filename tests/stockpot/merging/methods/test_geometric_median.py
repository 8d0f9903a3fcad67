from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stockpot.merging.engine import merge_states
from stockpot.merging.methods.geometric_median import geometric_median
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe


def _random(count: int, seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(count)]


def _sum_of_distances(point: Tensor, tensors: list[Tensor], parts: list[float]) -> Tensor:
    distances = [torch.linalg.vector_norm(point - tensor) for tensor in tensors]
    return sum((p * d for p, d in zip(parts, distances, strict=True)), torch.zeros(()).double())


def test_of_a_triangle_it_is_the_point_that_sees_all_sides_at_120_degrees() -> None:
    # Fermat's point of (0, 0), (1, 0) and (0, 1), on the line x = y.
    corners = [torch.tensor(c, dtype=torch.float64) for c in ([0.0, 0.0], [1.0, 0.0], [0.0, 1.0])]
    expected = (3 - math.sqrt(3)) / 6

    merged = geometric_median(corners, [1, 1, 1])

    torch.testing.assert_close(merged, torch.full((2,), expected, dtype=torch.float64))


def test_no_other_point_has_a_smaller_sum_of_distances() -> None:
    tensors, parts = _random(5), [0.3, 0.1, 0.2, 0.25, 0.15]

    merged = geometric_median(tensors, parts).requires_grad_()

    _sum_of_distances(merged, tensors, parts).backward()  # type: ignore[no-untyped-call]
    assert merged.grad is not None
    torch.testing.assert_close(merged.grad, torch.zeros(7, 5).double(), rtol=0, atol=1e-8)


def test_two_equal_models_have_their_mean() -> None:
    tensors = _random(2)

    torch.testing.assert_close(geometric_median(tensors, [1, 1]), linear(tensors, [1, 1]))


@pytest.mark.parametrize("parts", [[3, 1, 1], [0.2, 0.05, 0.1]])
def test_the_majority_is_returned_bit_for_bit(parts: list[float]) -> None:
    tensors = _random(3)

    assert torch.equal(geometric_median(tensors, parts), tensors[0])


def test_models_at_one_point_count_together() -> None:
    here, *others = _random(4)

    assert torch.equal(geometric_median([*others[:2], here, here, here], [1.0] * 5), here)


@pytest.mark.parametrize("place", [0, 4])
def test_an_outlier_hardly_moves_it(place: int) -> None:
    tensors = _random(4)
    tensors.insert(place, torch.full((7, 5), 1e6, dtype=torch.float64))

    merged = geometric_median(tensors, [1.0] * 5)

    others = [tensor for number, tensor in enumerate(tensors) if number != place]
    radius = max(torch.linalg.vector_norm(tensor) for tensor in others)
    assert torch.linalg.vector_norm(merged - linear(others, [1.0] * 4)) < radius


def test_it_starts_at_a_model_and_leaves_it() -> None:
    # The mean is the middle model, which is no median: the weight there is small.
    tensors = [torch.tensor([x, y], dtype=torch.float64) for x, y in ((0, 0), (3, 0), (-1, 2))]
    parts = [1.0, 1.0, 1.0]
    mean = linear(tensors, parts)

    merged = geometric_median([*tensors, mean], [*parts, 1e-6])

    own, others = (_sum_of_distances(p, tensors, parts) for p in (merged, mean))
    assert own < others


def test_with_scope_model_all_tensors_have_the_same_coefficients() -> None:
    generator = torch.Generator().manual_seed(5)
    states = [{n: torch.randn(4, generator=generator) for n in "ab"} for _ in range(3)]

    merged = merge_states(states, Recipe("geometric_median", (1.0,) * 3, {"scope": "model"}))

    whole = geometric_median([torch.cat([*state.values()]) for state in states], [1.0] * 3)
    torch.testing.assert_close(torch.cat([*merged.values()]), whole)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"tol": 0.0}, "tol must be above 0"),
        ({"scope": "row"}, "scope must be one of"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=f"geometric_median: {rule}"):
        geometric_median(_random(2), [1, 1], **options)  # type: ignore[arg-type]
