from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.variance_corrected import variance_corrected


def _random(shape: tuple[int, ...], num_models: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(41)
    return [torch.randn(shape, generator=generator) for _ in range(num_models)]


def test_variance_correction_of_a_case_computed_by_hand() -> None:
    # The mean is [2, 4], of variance 2, and each model has variance 8.
    tensors = [torch.tensor([[1.0, 5.0]]), torch.tensor([[5.0, 1.0]])]

    merged = variance_corrected(tensors, [3.0, 1.0])

    torch.testing.assert_close(merged, torch.tensor([[1.0, 5.0]]))


def test_independent_models_are_stretched_by_the_root_of_their_number() -> None:
    tensors = _random((400, 250), 4)

    merged = variance_corrected(tensors, [1, 1, 1, 1])

    mean = linear(tensors, [1, 1, 1, 1])
    assert float(merged.std() / mean.std()) == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 3, 3)], ids=str)
def test_the_merge_has_the_mean_of_the_models_and_their_mean_variance(
    shape: tuple[int, ...],
) -> None:
    tensors = [tensor * (k + 1) + k for k, tensor in enumerate(_random(shape, 3))]
    shares = [0.2, 0.3, 0.5]

    merged = variance_corrected(tensors, shares)

    variances = torch.stack([tensor.var() for tensor in tensors])
    torch.testing.assert_close(merged.var(), variances @ torch.tensor(shares))
    torch.testing.assert_close(merged.mean(), linear(tensors, shares).mean())


def test_copies_are_not_stretched() -> None:
    [tensor] = _random((3, 5), 1)

    merged = variance_corrected([tensor] * 4, [0.1, 0.2, 0.3, 0.4])

    torch.testing.assert_close(merged, tensor)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3, 5)], ids=str)
def test_one_model_stays_bit_for_bit(shape: tuple[int, ...]) -> None:
    [tensor] = _random(shape, 1)

    assert torch.equal(variance_corrected([tensor], [0.7], min_ndim=0), tensor)


def test_constant_tensors_are_averaged() -> None:
    tensors = [torch.full((2, 3), 1.0), torch.full((2, 3), 4.0)]

    merged = variance_corrected(tensors, [1, 2], eps=0)

    assert torch.equal(merged, torch.full((2, 3), 3.0))


@pytest.mark.parametrize(("min_ndim", "is_stretched"), [(2, False), (1, True)])
def test_tensors_of_one_axis_are_stretched_on_demand(min_ndim: int, is_stretched: bool) -> None:
    tensors = _random((64,), 2)

    merged = variance_corrected(tensors, [1, 1], min_ndim=min_ndim)

    assert torch.equal(merged, linear(tensors, [1, 1])) is not is_stretched


def test_eps_holds_the_correction_back() -> None:
    tensors = [torch.tensor([[1.0, 5.0]]), torch.tensor([[5.0, 1.0]])]

    merged = variance_corrected(tensors, [3.0, 1.0], eps=4.0)

    half_width = math.sqrt((8 + 4) / (2 + 4))
    torch.testing.assert_close(merged, torch.tensor([[3 - half_width, 3 + half_width]]))


@pytest.mark.parametrize("options", [{"eps": -1e-9}, {"min_ndim": -1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"variance_corrected: \w+ must be at least 0, got -"):
        variance_corrected(_random((2, 2), 2), [1, 1], **options)


def test_a_negative_coefficient_is_refused() -> None:
    with pytest.raises(ValueError, match="variance_corrected: coefficients must be at least 0"):
        variance_corrected(_random((2, 2), 2), [2, -1])


@pytest.mark.parametrize(("own_share", "wanted"), [(0.0, 2.5), (1.0, 1.0), (0.4, 1.9)])
def test_the_variance_can_be_the_first_models_own_or_a_mixture(
    own_share: float, wanted: float
) -> None:
    one, other = _random((400, 250), 2)  # variances of 1 and 4

    merged = variance_corrected([one, 2 * other], [1, 1], own_share=own_share)

    assert float(merged.var()) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("own_share", [-0.1, 1.1])
def test_the_share_of_the_first_model_is_a_share(own_share: float) -> None:
    with pytest.raises(ValueError, match=r"own_share must be in \[0, 1\]"):
        variance_corrected(_random((3, 3), 2), [1, 1], own_share=own_share)
