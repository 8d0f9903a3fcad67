from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging import linear
from stockpot.merging.fisher import fisher_average, scale_by_norms

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3), (0, 4)]


def _models(shape: tuple[int, ...], num_models: int = 3) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(61)
    tensors = [torch.randn(shape, generator=generator) for _ in range(num_models)]
    return tensors, [torch.rand(shape, generator=generator) for _ in range(num_models)]


def test_fisher_average_of_a_case_computed_by_hand() -> None:
    tensors = [torch.tensor([1.0, 1.0]), torch.tensor([5.0, 5.0])]
    fishers = [torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.0])]

    merged = fisher_average(tensors, fishers, [1.0, 2.0])

    torch.testing.assert_close(merged, torch.tensor([(3 + 2 * 5) / 5, 1.0]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_equal_information_it_is_linear(shape: tuple[int, ...]) -> None:
    tensors, [fisher, *_] = _models(shape)

    merged = fisher_average(tensors, [fisher] * 3, [0.5, 0.2, 0.3], floor=0)

    torch.testing.assert_close(merged, linear(tensors, [0.5, 0.2, 0.3]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_only_ratios_of_information_and_of_coefficients_count(shape: tuple[int, ...]) -> None:
    tensors, fishers = _models(shape)

    merged = fisher_average(tensors, [f * 1e9 for f in fishers], [1, 4, 2], floor=0)

    torch.testing.assert_close(
        merged, fisher_average(tensors, fishers, [0.5, 2, 1], floor=0), rtol=1e-5, atol=1e-6
    )


@given(shares=st.lists(st.floats(0, 5), min_size=2, max_size=5).filter(any))
@settings(max_examples=40, deadline=None)
def test_every_entry_lies_between_the_models(shares: list[float]) -> None:
    tensors, fishers = _models((64,), len(shares))
    stacked = torch.stack(tensors)

    merged = fisher_average(tensors, fishers, shares)

    assert (merged >= stacked.amin(dim=0)).all()
    assert (merged <= stacked.amax(dim=0)).all()


def test_all_of_the_coefficients_on_a_model_give_it_bit_for_bit() -> None:
    tensors, fishers = _models((64,))

    merged = fisher_average(tensors, fishers, [0, 1, 0])

    assert torch.equal(merged, tensors[1])


def test_where_no_other_model_has_information_the_target_stays() -> None:
    tensors, _ = _models((64,))
    nothing = [torch.zeros(64)] * 3

    merged = fisher_average(tensors, nothing, [0.1, 0.5, 0.4], target=1)

    assert torch.equal(merged, tensors[1])


def test_a_floor_for_all_models_makes_it_linear_where_all_are_below() -> None:
    tensors, fishers = _models((64,))

    merged = fisher_average(
        tensors, [f * 1e-9 for f in fishers], [0.5, 0.2, 0.3], floor=1e-6, target=None
    )

    torch.testing.assert_close(merged, linear(tensors, [0.5, 0.2, 0.3]))


def test_without_information_or_floor_it_is_linear() -> None:
    tensors, _ = _models((64,))

    merged = fisher_average(tensors, [torch.zeros(64)] * 3, [0.5, 0.2, 0.3], floor=0)

    torch.testing.assert_close(merged, linear(tensors, [0.5, 0.2, 0.3]))


def test_the_floor_of_the_target_does_not_lift_the_others() -> None:
    tensors = [torch.tensor([0.0]), torch.tensor([1.0])]
    fishers = [torch.tensor([0.5]), torch.tensor([0.5])]

    merged = fisher_average(tensors, fishers, [1, 1], floor=1.5)

    torch.testing.assert_close(merged, torch.tensor([0.25]))


def test_tiny_information_counts_as_well_as_large() -> None:
    # Products of float32 numbers this small are 0.
    tensors = [torch.tensor([1e-10]), torch.tensor([3e-10])]
    fishers = [torch.tensor([1e-37]), torch.tensor([1e-37])]

    merged = fisher_average(tensors, fishers, [1, 1], floor=0)

    torch.testing.assert_close(merged, torch.tensor([2e-10]), rtol=1e-6, atol=0)


def test_inputs_stay_and_the_dtype_is_kept() -> None:
    tensors, fishers = _models((3, 5))
    copies = [tensor.clone() for tensor in (*tensors, *fishers)]

    merged = fisher_average(tensors, fishers, [1, 1, 1])

    assert merged.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip((*tensors, *fishers), copies, strict=True))


@pytest.mark.parametrize(
    ("floor", "coefficients", "rule"),
    [
        (-1e-9, [1.0, 1.0], "floor must be at least 0"),
        (0.0, [2.0, -1.0], "coefficients must be at least 0"),
        (0.0, [0.0, 0.0], "coefficients must not sum to 0"),
    ],
)
def test_what_cannot_be_weighted_is_refused(
    floor: float, coefficients: list[float], rule: str
) -> None:
    tensors, fishers = _models((3,), 2)

    with pytest.raises(ValueError, match=f"fisher_average: {rule}, got"):
        fisher_average(tensors, fishers, coefficients, floor=floor)


def test_coefficients_are_scaled_by_the_length_of_all_of_a_model_s_information() -> None:
    first = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    second = [torch.tensor([0.0]), torch.tensor([[10.0]])]

    assert scale_by_norms([0.5, 0.5], [first, second]) == [0.1, 0.05]


def test_scaled_coefficients_make_a_model_s_overall_scale_count_for_nothing() -> None:
    tensors, fishers = _models((3, 5), 2)
    larger = [fishers[0], fishers[1] * 1e4]

    merged = fisher_average(
        tensors, larger, scale_by_norms([0.4, 0.6], [[fisher] for fisher in larger]), floor=0
    )

    scaled = scale_by_norms([0.4, 0.6], [[fisher] for fisher in fishers])
    torch.testing.assert_close(merged, fisher_average(tensors, fishers, scaled, floor=0))


def test_a_model_without_information_has_no_scale() -> None:
    with pytest.raises(ValueError, match="fisher of model 1: must not be 0 everywhere"):
        scale_by_norms([1, 1], [[torch.ones(2)], [torch.zeros(2)]])
