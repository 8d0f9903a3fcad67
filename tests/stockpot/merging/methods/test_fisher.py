from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.methods.fisher import Fisher, fisher
from stockpot.merging.methods.linear import linear

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3), (0, 4)]


def _models(shape: tuple[int, ...], num_models: int = 3) -> tuple[list[Tensor], list[Fisher]]:
    generator = torch.Generator().manual_seed(61)
    tensors = [torch.randn(shape, generator=generator) for _ in range(num_models)]
    diagonals = [torch.rand(shape, generator=generator) for _ in range(num_models)]
    return tensors, [Fisher(diagonal, norm=2.0) for diagonal in diagonals]


def _times(information: Fisher, factor: float) -> Fisher:
    return Fisher(information.diagonal * factor, information.norm * factor)


def test_fisher_of_a_case_computed_by_hand() -> None:
    tensors = [torch.tensor([1.0, 1.0]), torch.tensor([5.0, 5.0])]
    fishers = [Fisher(torch.tensor([3.0, 1.0]), 1.0), Fisher(torch.tensor([1.0, 0.0]), 0.5)]

    merged = fisher(tensors, fishers, [0.5, 0.5])

    torch.testing.assert_close(merged, torch.tensor([(3 + 2 * 5) / 5, 1.0]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("normalize", [True, False])
def test_with_equal_information_it_is_linear(shape: tuple[int, ...], normalize: bool) -> None:
    tensors, [same, *_] = _models(shape)

    merged = fisher(tensors, [same] * 3, [0.5, 0.2, 0.3], floor=0, normalize=normalize)

    torch.testing.assert_close(merged, linear(tensors, [0.5, 0.2, 0.3]))


@pytest.mark.parametrize("factor", [1e-9, 0.5, 1e9])
def test_normalized_a_model_s_overall_scale_counts_for_nothing(factor: float) -> None:
    tensors, fishers = _models((3, 5))
    scaled = [fishers[0], _times(fishers[1], factor), fishers[2]]

    merged = fisher(tensors, scaled, [1, 4, 2], floor=0)

    torch.testing.assert_close(merged, fisher(tensors, fishers, [1, 4, 2], floor=0))


def test_not_normalized_a_model_s_overall_scale_counts_like_its_coefficient() -> None:
    tensors, fishers = _models((3, 5))
    scaled = [fishers[0], _times(fishers[1], 8.0), fishers[2]]

    merged = fisher(tensors, scaled, [1, 1, 1], normalize=False)

    torch.testing.assert_close(merged, fisher(tensors, fishers, [1, 8, 1], normalize=False))


@given(shares=st.lists(st.floats(0, 5), min_size=2, max_size=5).filter(any))
@settings(max_examples=40, deadline=None)
def test_every_entry_lies_between_the_models(shares: list[float]) -> None:
    tensors, fishers = _models((64,), len(shares))
    stacked = torch.stack(tensors)

    merged = fisher(tensors, fishers, shares)

    assert (merged >= stacked.amin(dim=0)).all()
    assert (merged <= stacked.amax(dim=0)).all()


@pytest.mark.parametrize("model", range(3))
def test_all_of_the_coefficients_on_a_model_give_it_bit_for_bit(model: int) -> None:
    tensors, fishers = _models((64,))
    one_hot = [float(position == model) for position in range(3)]

    assert torch.equal(fisher(tensors, fishers, one_hot), tensors[model])


def test_where_no_other_model_has_information_the_first_stays() -> None:
    tensors, [some, *_] = _models((64,))
    nothing = Fisher(torch.zeros(64), 2.0)

    merged = fisher(tensors, [some, nothing, nothing], [0.1, 0.5, 0.4])
    without_any = fisher(tensors, [nothing] * 3, [0.1, 0.5, 0.4])

    assert torch.equal(merged, tensors[0])
    assert torch.equal(without_any, tensors[0])


def test_a_floor_for_all_models_makes_it_linear_where_all_are_below() -> None:
    tensors, fishers = _models((64,))
    tiny = [_times(own, 1e-9) for own in fishers]

    merged = fisher(tensors, tiny, [0.5, 0.2, 0.3], floor=1e-6, favor_target=False, normalize=False)

    torch.testing.assert_close(merged, linear(tensors, [0.5, 0.2, 0.3]))


def test_without_information_or_floor_it_is_linear() -> None:
    tensors, _ = _models((64,))
    nothing = Fisher(torch.zeros(64), 2.0)

    merged = fisher(tensors, [nothing] * 3, [0.5, 0.2, 0.3], floor=0)

    torch.testing.assert_close(merged, linear(tensors, [0.5, 0.2, 0.3]))


def test_the_floor_of_the_first_does_not_lift_the_others() -> None:
    tensors = [torch.tensor([0.0]), torch.tensor([1.0])]
    fishers = [Fisher(torch.tensor([0.5]), 1.0)] * 2

    merged = fisher(tensors, fishers, [1, 1], floor=1.5)

    torch.testing.assert_close(merged, torch.tensor([0.25]))


def test_the_floor_is_of_the_information_before_it_is_normalized() -> None:
    tensors = [torch.tensor([0.0]), torch.tensor([1.0])]
    fishers = [Fisher(torch.tensor([1.0]), 10.0), Fisher(torch.tensor([4.0]), 10.0)]

    merged = fisher(tensors, fishers, [1, 1], floor=2.0)

    torch.testing.assert_close(merged, torch.tensor([4 / 6]))


def test_tiny_information_counts_as_well_as_large() -> None:
    # Products of float32 numbers this small are 0.
    tensors = [torch.tensor([1e-10]), torch.tensor([3e-10])]
    fishers = [Fisher(torch.tensor([1e-37]), 1.0)] * 2

    merged = fisher(tensors, fishers, [1, 1], floor=0)

    torch.testing.assert_close(merged, torch.tensor([2e-10]), rtol=1e-6, atol=0)


def test_a_tensor_that_is_no_parameter_is_averaged() -> None:
    tensors, [own, *_] = _models((3, 5))

    merged = fisher(tensors, [own, None, None], [0.5, 0.2, 0.3])

    assert torch.equal(merged, linear(tensors, [0.5, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("floor", "coefficients", "rule"),
    [
        (-1e-9, [1.0, 1.0], "floor must be finite and at least 0"),
        (float("inf"), [1.0, 1.0], "floor must be finite and at least 0"),
        (0.0, [2.0, -1.0], "coefficients must be at least 0"),
        (0.0, [0.0, 0.0], "coefficients must not sum to 0"),
    ],
)
def test_what_cannot_be_weighted_is_refused(
    floor: float, coefficients: list[float], rule: str
) -> None:
    tensors, fishers = _models((3,), 2)

    with pytest.raises(ValueError, match=f"fisher: {rule}, got"):
        fisher(tensors, fishers, coefficients, floor=floor)


def test_a_model_without_any_information_cannot_be_normalized() -> None:
    tensors, [some, _] = _models((3,), 2)
    nothing = Fisher(torch.zeros(3), 0.0)

    with pytest.raises(ValueError, match="normalize needs information, got none about model 1"):
        fisher(tensors, [some, nothing], [1, 1])
