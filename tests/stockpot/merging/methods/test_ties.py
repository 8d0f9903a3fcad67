from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.methods.task_arithmetic import task_arithmetic
from stockpot.merging.methods.ties import ties


def _random(shape: tuple[int, ...], num_models: int, seed: int = 7) -> list[Tensor]:
    generator = Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_ties_of_a_case_computed_by_hand() -> None:
    base = torch.tensor([10.0, 10.0, 10.0, 10.0, 10.0])
    tensors = [
        base + torch.tensor([4.0, 1.0, -3.0, 0.5, 2.0]),  # trimmed: 4, 0, -3, 0, 2
        base + torch.tensor([2.0, -5.0, 4.0, 1.0, 0.0]),  # trimmed: 2, -5, 4, 0, 0
        base + torch.tensor([-1.0, 3.0, 0.5, 2.0, -6.0]),  # trimmed: 0, 3, 0, 2, -6
    ]

    merged = ties(tensors, base, [1.0, 1.0, 1.0], density=0.6, scale=2.0)

    assert (merged - base).tolist() == [6.0, -10.0, 8.0, 4.0, -12.0]


def test_without_normalising_agreeing_entries_are_summed() -> None:
    base = torch.tensor([1.0, 1.0])
    tensors = [torch.tensor([3.0, 0.0]), torch.tensor([2.0, 5.0])]

    merged = ties(tensors, base, [1.0, 2.0], density=1.0, normalize=False)

    assert merged.tolist() == [1.0 + 2.0 + 2.0, 1.0 + 8.0]


@pytest.mark.parametrize("coefficient", [1.0, 0.7, 5.0])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)], ids=str)
def test_one_model_with_density_1_is_that_model(shape: tuple[int, ...], coefficient: float) -> None:
    base, tensor = _random(shape, 2)

    torch.testing.assert_close(ties([tensor], base, [coefficient], density=1.0), tensor)


@given(size=st.integers(1, 60), density=st.floats(0.001, 1))
@settings(max_examples=60, deadline=None)
def test_equal_models_give_the_trimmed_task_vector(size: int, density: float) -> None:
    base, tensor = (tensor.double() for tensor in _random((size,), 2))
    kept = max(1, round(density * size))
    largest = (tensor - base).abs().topk(kept).indices

    merged = ties([tensor] * 3, base, [1.0] * 3, density=density)

    expected = base.clone()
    expected[largest] = tensor[largest]
    torch.testing.assert_close(merged, expected)


def test_opposite_task_vectors_leave_the_base_bit_for_bit() -> None:
    base, task_vector = torch.zeros(9), torch.arange(1.0, 10.0)

    merged = ties([base + task_vector, base - task_vector], base, [1.0, 1.0], density=0.5)

    assert torch.equal(merged, base)


def test_task_vectors_twice_as_long_give_a_merged_one_twice_as_long() -> None:
    base, *task_vectors = (tensor.double() for tensor in _random((50,), 4))

    once = ties([base + t for t in task_vectors], base, [0.5, 0.3, 0.2])
    twice = ties([base + 2 * t for t in task_vectors], base, [0.5, 0.3, 0.2])

    torch.testing.assert_close(twice - base, 2 * (once - base))


@given(
    coefficients=st.lists(st.floats(0.01, 10), min_size=1, max_size=5),
    density=st.floats(0.01, 1),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_the_mean_stays_between_the_models_and_the_base(
    coefficients: list[float], density: float, seed: int
) -> None:
    base, *tensors = _random((30,), len(coefficients) + 1, seed)
    stacked = torch.stack([base, *tensors])

    merged = ties(tensors, base, coefficients, density=density)

    assert (merged >= stacked.amin(dim=0) - 1e-5).all()
    assert (merged <= stacked.amax(dim=0) + 1e-5).all()


@given(coefficients=st.lists(st.floats(0.01, 10), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_where_all_models_agree_a_sum_without_trimming_is_task_arithmetic(
    coefficients: list[float],
) -> None:
    base, *task_vectors = _random((30,), len(coefficients) + 1)
    tensors = [base + task_vector.abs() for task_vector in task_vectors]

    merged = ties(tensors, base, coefficients, density=1.0, normalize=False)

    torch.testing.assert_close(merged, task_arithmetic(tensors, base, coefficients))


def test_of_equal_magnitudes_the_first_in_flat_order_are_kept() -> None:
    base = torch.zeros(2, 3)
    tensor = torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, 1.0]])

    merged = ties([tensor], base, [1.0], density=0.5)

    assert merged.tolist() == [[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_small_tensor_keeps_its_largest_entry(size: int) -> None:
    base, tensor = torch.zeros(size), torch.arange(1.0, size + 1)

    merged = ties([tensor], base, [1.0], density=0.01)

    assert merged.tolist() == [0.0] * (size - 1) + [float(size)]


def test_a_model_equal_to_the_base_does_not_shorten_the_mean() -> None:
    base, tensor = _random((40,), 2)

    merged = ties([tensor, base], base, [1.0, 1.0])

    torch.testing.assert_close(merged, ties([tensor], base, [1.0]))


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_a_density_that_is_no_share_is_refused(density: float) -> None:
    base, tensor = _random((3,), 2)

    with pytest.raises(ValueError, match=r"ties: density must be in \[0, 1\], got"):
        ties([tensor], base, [1.0], density=density)
