from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.methods.sce import sce


def _random(shape: tuple[int, ...], num_models: int, seed: int = 7) -> list[Tensor]:
    generator = Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_sce_of_a_case_computed_by_hand() -> None:
    base = torch.tensor([1.0, 1.0, 1.0])
    first, second = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([3.0, 1.0, 5.0])
    # Sums of squares are 5 and 35, so the weights are 1/8 and 7/8; sums are 4, -1, 5.
    expected = torch.tensor([(1 * 1 + 7 * 3) / 8, -2.0, 5.0])

    merged = sce([base + first, base + second], base)

    torch.testing.assert_close(merged, base + expected)


def test_selection_of_a_case_computed_by_hand() -> None:
    base = torch.zeros(4)
    # Half the distance squared: 1, 2.25, 0, 6.25. A share of 2/3 of the three that vary is two.
    first, second = torch.tensor([1.0, -2.0, 7.0, 0.0]), torch.tensor([3.0, 1.0, 7.0, 5.0])

    merged = sce([first, second], base, select_topk=0.67)

    assert merged.tolist() == [0.0, -2.0, 0.0, 5.0]


@pytest.mark.parametrize("num_models", [1, 2, 3])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)], ids=str)
def test_equal_models_give_that_model_if_all_is_selected(
    shape: tuple[int, ...], num_models: int
) -> None:
    base, tensor = _random(shape, 2)

    torch.testing.assert_close(sce([tensor] * num_models, base), tensor)


@pytest.mark.parametrize("num_models", [1, 2, 3])
def test_equal_models_have_no_variance_to_select_and_give_the_base(num_models: int) -> None:
    base, tensor = _random((50,), 2)

    assert torch.equal(sce([tensor] * num_models, base, select_topk=0.9), base)


@pytest.mark.parametrize("length", [1.0, 1e-6, 1e-30])
def test_weights_are_squares_however_short_the_task_vectors(length: float) -> None:
    task_vector = length * torch.tensor([1.0, 2.0, 0.5])

    merged = sce([task_vector, 3 * task_vector], torch.zeros(3))

    torch.testing.assert_close(merged, (1 + 9 * 3) / 10 * task_vector, rtol=1e-5, atol=0)


@given(seed=st.integers(0, 100), share=st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_only_selected_entries_differ_from_the_base(seed: int, share: float) -> None:
    base, *tensors = _random((40,), 4, seed)
    variance = torch.stack(tensors).var(dim=0, correction=0)
    selected = variance.topk(max(1, round(share * 40))).indices

    merged = sce(tensors, base, select_topk=share)

    assert set((merged != base).nonzero().flatten().tolist()) == set(selected.tolist())


def test_weights_are_those_of_the_selected_entries() -> None:
    base, *tensors = (tensor.double() for tensor in _random((40,), 4))
    variance = torch.stack(tensors).var(dim=0, correction=0)
    selected = variance.topk(20).indices

    merged = sce(tensors, base, select_topk=0.5)

    alone = sce([tensor[selected] for tensor in tensors], base[selected])
    torch.testing.assert_close(merged[selected], alone)


def test_opposite_models_agree_nowhere_and_leave_the_base_bit_for_bit() -> None:
    task_vector = torch.arange(1.0, 6.0)

    merged = sce([3 + task_vector, 3 - task_vector], torch.full((5,), 3.0))

    assert merged.tolist() == [3.0] * 5


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_tensor_that_no_model_changed_stays_bit_for_bit(share: float) -> None:
    [base] = _random((50,), 1)

    assert torch.equal(sce([base.clone(), base.clone()], base, select_topk=share), base)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_selection_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"^sce: select_topk must be in \[0, 1\], got"):
        sce(_random((3,), 2), torch.zeros(3), select_topk=share)
