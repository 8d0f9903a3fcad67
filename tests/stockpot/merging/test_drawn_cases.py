"""Every method on drawn shapes and coefficients, and a property of each of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.merging.checks import side_information
from stockpot.merging.draws import Draws
from stockpot.merging.methods.arcee_fusion import arcee_fusion
from stockpot.merging.methods.dare import dare_linear, dare_ties
from stockpot.merging.methods.della import della, della_linear
from stockpot.merging.methods.iso_c import iso_c
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.nuslerp import nuslerp, nuslerp_rows
from stockpot.merging.methods.passthrough import passthrough
from stockpot.merging.methods.ram import ram, ram_plus
from stockpot.merging.methods.regmean import regmean
from stockpot.merging.methods.slerp import slerp
from stockpot.merging.methods.tsv import tsv
from stockpot.merging.methods.variance_corrected import variance_corrected
from stockpot.merging.methods.wudi import wudi
from stockpot.merging.registry import METHODS

SHAPES = st.lists(st.integers(0, 6), max_size=4)
MATRICES = st.lists(st.integers(1, 8), min_size=2, max_size=2)
SEEDS = st.integers(0, 10_000)
REQUIRED = {"t": 0.4}  # a value for the options that have no default

drawn = settings(max_examples=25, deadline=None)


def _random(shape: list[int], count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("name", sorted(METHODS))
@drawn
@given(shape=SHAPES, shares=st.lists(st.floats(0.1, 3), min_size=4, max_size=4), seed=SEEDS)
def test_whatever_the_shape_and_the_coefficients(
    name: str, shape: list[int], shares: list[float], seed: int
) -> None:
    method = METHODS[name]
    least, largest = method.num_models
    count = min(max(least, 1 + seed % 4), largest or 4)
    coefficients = [share / sum(shares[:count]) for share in shares[:count]]
    *tensors, base = _random(shape, count + 1, seed)
    options = {option: REQUIRED[option] for option in method.options if option in REQUIRED}

    def merge(models: list[Tensor]) -> Tensor:
        draws = [Draws(number) for number in range(count)]
        side = side_information(method, models)
        return method(models, coefficients, base, draws, options, side)

    merged, of_copies = merge(tensors), merge([base.clone() for _ in tensors])

    assert (merged.shape, merged.dtype) == (base.shape, base.dtype)
    assert torch.isfinite(merged).all()
    torch.testing.assert_close(of_copies, base)


@drawn
@given(shape=SHAPES, seed=SEEDS)
def test_arcee_fusion_takes_each_entry_of_the_model_or_of_the_base(
    shape: list[int], seed: int
) -> None:
    tensor, base = _random(shape, 2, seed)

    merged = arcee_fusion([tensor], base)

    assert ((merged == base) | torch.isclose(merged, tensor, rtol=1e-5, atol=1e-6)).all()


@pytest.mark.parametrize("merge", [dare_linear, dare_ties, della, della_linear])
@drawn
@given(shape=SHAPES, density=st.floats(0.2, 0.8), seed=SEEDS)
def test_of_one_model_entries_are_dropped_or_kept_as_they_are(
    merge: Callable[..., Tensor], shape: list[int], density: float, seed: int
) -> None:
    tensor, base = _random(shape, 2, seed)

    merged = merge([tensor], base, [1.0], density=density, rescale="none", draws=[Draws(seed)])

    assert ((merged == base) | torch.isclose(merged, tensor, rtol=1e-5, atol=1e-6)).all()


@drawn
@given(shape=MATRICES, count=st.integers(1, 4), seed=SEEDS)
def test_iso_c_makes_all_singular_values_the_mean_of_those_of_the_sum(
    shape: list[int], count: int, seed: int
) -> None:
    *tensors, base = (tensor.double() for tensor in _random(shape, count + 1, seed))

    merged = iso_c(tensors, base)

    of_sum = torch.linalg.svdvals(torch.stack(tensors).sum(0) - count * base)
    torch.testing.assert_close(
        torch.linalg.svdvals(merged - base), of_sum.mean().expand(min(shape)), rtol=1e-6, atol=1e-9
    )


@drawn
@given(shape=SHAPES, first=st.floats(0.1, 3), second=st.floats(0.1, 3), seed=SEEDS)
def test_nuslerp_is_slerp_to_the_second_model_s_share(
    shape: list[int], first: float, second: float, seed: int
) -> None:
    tensors = _random(shape, 2, seed)

    merged = nuslerp(tensors, [first, second])

    torch.testing.assert_close(merged, slerp(tensors, t=second / (first + second)))


@drawn
@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=4), share=st.floats(0, 1), seed=SEEDS)
def test_nuslerp_of_rows_is_slerp_of_each_output_unit(
    shape: list[int], share: float, seed: int
) -> None:
    first, second = _random(shape, 2, seed)

    merged = nuslerp_rows([first, second], [1 - share, share])

    rows = [slerp([a, b], t=share) for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(merged, torch.stack(rows), rtol=1e-4, atol=1e-5)


@drawn
@given(shape=SHAPES, scale=st.floats(-4, 4, width=32), seed=SEEDS)
def test_passthrough_is_the_product(shape: list[int], scale: float, seed: int) -> None:
    [tensor] = _random(shape, 1, seed)

    assert torch.equal(passthrough([tensor], scale=scale), tensor * scale)


@pytest.mark.parametrize("merge", [ram, ram_plus])
@drawn
@given(shape=SHAPES, seed=SEEDS)
def test_of_what_all_models_changed_ram_is_the_mean(
    merge: Callable[..., Tensor], shape: list[int], seed: int
) -> None:
    base, *changes = _random(shape, 4, seed)
    tensors = [base + change.sign() + change for change in changes]

    torch.testing.assert_close(merge(tensors, base), torch.stack(tensors).mean(0))


@drawn
@given(shape=MATRICES, shares=st.lists(st.floats(0.1, 3), min_size=3, max_size=3), seed=SEEDS)
def test_regmean_of_equal_inputs_is_the_weighted_mean(
    shape: list[int], shares: list[float], seed: int
) -> None:
    *tensors, inputs = _random(shape, 4, seed)
    grams = side_information(METHODS["regmean"], [inputs] * 3)

    merged = regmean(tensors, grams, shares)

    torch.testing.assert_close(merged, linear(tensors, shares), rtol=1e-4, atol=1e-5)


@drawn
@given(shape=MATRICES, seed=SEEDS)
def test_tsv_of_one_model_is_that_model(shape: list[int], seed: int) -> None:
    tensor, base = (tensor.double() for tensor in _random(shape, 2, seed))

    torch.testing.assert_close(tsv([tensor], base), tensor)


@drawn
@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=4),
    shares=st.lists(st.floats(0.1, 3), min_size=3, max_size=3),
    seed=SEEDS,
)
def test_a_corrected_mean_has_the_mean_variance_and_the_mean_of_the_mean(
    shape: list[int], shares: list[float], seed: int
) -> None:
    tensors = [tensor.double() for tensor in _random(shape, 3, seed)]

    merged = variance_corrected(tensors, shares)

    wanted = sum(share * t.var() for share, t in zip(shares, tensors, strict=True)) / sum(shares)
    torch.testing.assert_close(merged.var(), wanted)
    torch.testing.assert_close(merged.mean(), linear(tensors, shares).mean(), rtol=1e-6, atol=1e-9)


@drawn
@given(shape=MATRICES, seed=SEEDS)
def test_wudi_leaves_a_single_task_vector_where_it_is(shape: list[int], seed: int) -> None:
    tensor, base = (tensor.double() for tensor in _random(shape, 2, seed))

    torch.testing.assert_close(wudi([tensor], base, steps=5), tensor)
