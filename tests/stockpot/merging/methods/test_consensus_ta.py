from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from stockpot.merging.methods.consensus_ta import consensus_ta
from stockpot.merging.methods.task_arithmetic import task_arithmetic


def _random(shape: tuple[int, ...], num_models: int, seed: int = 7) -> list[Tensor]:
    generator = Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_consensus_ta_of_a_case_computed_by_hand() -> None:
    base = torch.ones(4)
    task_vectors = [[4.0, 4.0, 3.0, 2.0], [2.0, 0.0, -3.0, 4.0]]
    tensors = [base + torch.tensor(row) for row in task_vectors]

    merged = consensus_ta(tensors, base, [1.0, 0.5], mask_ratio=0.24, scale=2.0)

    # Weighted, the second is 1, 0, -1.5, 2, and the sums 5, 4, 1.5, 4; the second entry matters
    # to the first model only: 0 < 0.24 * 4.
    assert (merged - base).tolist() == [10.0, 0.0, 3.0, 8.0]


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)], ids=str)
def test_asking_for_no_model_is_task_arithmetic(shape: tuple[int, ...]) -> None:
    base, *tensors = _random(shape, 3)

    merged = consensus_ta(tensors, base, [0.5, 2.0], min_models=0, scale=0.3)

    assert torch.equal(merged, task_arithmetic(tensors, base, [0.5, 2.0], scale=0.3))


def test_a_ratio_of_0_masks_nothing() -> None:
    base, *tensors = _random((50,), 4)

    merged = consensus_ta(tensors, base, [1.0] * 3, mask_ratio=0.0, min_models=3)

    assert torch.equal(merged, task_arithmetic(tensors, base, [1.0] * 3))


def test_what_only_one_model_changed_stays_at_the_base() -> None:
    base, *tensors = _random((30,), 4)
    for position, tensor in enumerate(tensors):
        others = torch.arange(30) % 3 != position
        tensor[others] = base[others]

    assert torch.equal(consensus_ta(tensors, base, [1.0] * 3), base)


@given(seed=st.integers(0, 100), ratio=st.floats(0, 2), min_models=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_the_more_models_an_entry_must_matter_to_the_fewer_are_left(
    seed: int, ratio: float, min_models: int
) -> None:
    base, *tensors = _random((40,), 5, seed)
    task_vectors = torch.stack(tensors) - base
    total = task_vectors[0] + task_vectors[1] + task_vectors[2] + task_vectors[3]
    matters = task_vectors.abs() >= ratio * (total - task_vectors).abs()
    kept = matters.sum(dim=0) >= min_models

    merged = consensus_ta(tensors, base, [1.0] * 4, mask_ratio=ratio, min_models=min_models)

    assert torch.equal(merged, torch.where(kept, base + total, base))


def test_a_tensor_that_no_model_changed_stays_bit_for_bit() -> None:
    [base] = _random((50,), 1)

    assert torch.equal(consensus_ta([base.clone()] * 3, base, [1.0, 0.5, 0.2]), base)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"min_models": 3}, r"min_models must be in \[0, 2\], got 3"),
        ({"min_models": -1}, r"min_models must be in \[0, 2\], got -1"),
        ({"mask_ratio": -0.1}, "mask_ratio must be finite and >= 0, got -0.1"),
        ({"mask_ratio": float("inf")}, "mask_ratio must be finite and >= 0, got inf"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], rule: str) -> None:
    base, *tensors = _random((3,), 3)

    with pytest.raises(ValueError, match=f"^consensus_ta: {rule}$"):
        consensus_ta(tensors, base, [1.0, 1.0], **options)
