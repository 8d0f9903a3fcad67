from __future__ import annotations

import pytest
import torch

from stockpot.merging.methods.passthrough import passthrough


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 3, 3)], ids=str)
def test_passthrough_copies_bit_for_bit(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    merged = passthrough([tensor])

    assert torch.equal(merged, tensor)
    assert merged.data_ptr() != tensor.data_ptr()


def test_passthrough_multiplies_by_its_scale() -> None:
    merged = passthrough([torch.tensor([3.0, -1.0])], scale=-0.5)

    assert merged.tolist() == [-1.5, 0.5]


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_a_scale_that_is_not_finite_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="passthrough: scale must be finite, got"):
        passthrough([torch.ones(2)], scale=scale)
