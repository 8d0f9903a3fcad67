from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.methods.linear import linear
from stockpot.merging.recipe import Recipe
from stockpot.merging.tensor_rules import merge_running_vars, merge_tensor


class _Never(Recipe):
    """A recipe for tensors that are not for a merge method."""

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:
        raise AssertionError(f"{name} of {len(tensors)} models was merged, {base=}")


class _First(Recipe):
    """A recipe that shows whether its method was used: it takes the first model's tensor."""

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002
        return tensors[0].clone()


def _linear(coefficients: Sequence[float]) -> Recipe:
    return Recipe("linear", tuple(coefficients))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_equal_integer_buffers_are_copied_and_never_averaged(dtype: torch.dtype) -> None:
    buffer = torch.tensor([1, 0, 1]).to(dtype)

    merged = merge_tensor("mask", [buffer, buffer.clone()], _Never("linear", (0.5, 0.5)))
    kept = merged.clone()
    merged.zero_()

    assert torch.equal(kept, buffer)
    assert kept.dtype == dtype
    assert buffer.any()


@pytest.mark.parametrize("name", ["position_ids", "num_batches", "head.mask"])
def test_integer_buffers_that_differ_are_refused(name: str) -> None:
    tensors = [torch.tensor([1, 2]), torch.tensor([1, 3])]

    with pytest.raises(InputError, match=f"tensor '{name}': integer buffers of the models differ"):
        merge_tensor(name, tensors, _Never("linear", (0.5, 0.5)))


@pytest.mark.parametrize("coefficients", [[1.0, 1.0, 1.0], [0.0, 0.1, 0.9]])
def test_num_batches_tracked_takes_the_largest(coefficients: list[float]) -> None:
    counts = [torch.tensor(7), torch.tensor(31), torch.tensor(8)]

    merged = merge_tensor("bn.num_batches_tracked", counts, _Never("linear", tuple(coefficients)))

    assert torch.equal(merged, torch.tensor(31))


def test_running_means_are_averaged_whatever_the_method() -> None:
    means = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])]

    merged = merge_tensor("bn.running_mean", means, _First("linear", (3.0, 1.0)))

    assert torch.equal(merged, torch.tensor([1.5, 3.0]))


def test_weights_go_through_the_merge_method() -> None:
    weights = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])]

    assert torch.equal(
        merge_tensor("head.weight", weights, _First("linear", (1.0, 1.0))), weights[0]
    )


def test_running_vars_follow_the_law_of_total_variance_by_hand() -> None:
    # Two groups: mean 0 with variance 1, mean 4 with variance 3; shares 3/4 and 1/4.
    # Mean 1; within 3/4 * 1 + 1/4 * 3 = 1.5; between 3/4 * 1 + 1/4 * 9 = 3.
    merged = merge_running_vars(
        "bn.running_var",
        [torch.tensor([1.0]), torch.tensor([3.0])],
        [torch.tensor([0.0]), torch.tensor([4.0])],
        [3.0, 1.0],
    )

    assert torch.equal(merged, torch.tensor([4.5]))


def test_running_vars_are_those_of_the_pooled_examples() -> None:
    groups = torch.randn(3, 1000, 5, generator=torch.Generator().manual_seed(0)).double()
    groups += torch.tensor([[[-2.0]], [[0.0]], [[5.0]]])

    merged = merge_running_vars(
        "bn.running_var",
        list(groups.var(dim=1, correction=0)),
        list(groups.mean(dim=1)),
        [1.0, 1.0, 1.0],
    )

    torch.testing.assert_close(merged, groups.reshape(-1, 5).var(dim=0, correction=0))


@given(
    variance=st.floats(0, 1e3, width=32),
    mean=st.floats(-1e4, 1e4, width=32),
    shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_running_vars_of_copies_are_the_variance(
    variance: float, mean: float, shares: list[float]
) -> None:
    copies = len(shares)

    merged = merge_running_vars(
        "bn.running_var",
        [torch.tensor([variance])] * copies,
        [torch.tensor([mean])] * copies,
        shares,
    )

    assert (merged >= 0).all()
    torch.testing.assert_close(merged, torch.tensor([variance]), rtol=1e-6, atol=1e-12)


def test_a_negative_coefficient_counts_as_none_for_variances() -> None:
    variances = [torch.tensor([1.0]), torch.tensor([3.0])]
    means = [torch.tensor([0.0]), torch.tensor([4.0])]

    merged = merge_running_vars("bn.running_var", variances, means, [1.5, -0.5])

    assert torch.equal(merged, variances[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(999, generator=generator).to(dtype) for _ in range(9)]
    shares = [0.1 * n for n in range(1, 10)]

    merged = merge_tensor("w", tensors, _linear(shares))

    in_float32 = linear([tensor.float() for tensor in tensors], shares)
    in_half = linear(tensors, shares)
    assert torch.equal(merged, in_float32.to(dtype))
    assert not torch.equal(merged, in_half)


def test_float64_stays_float64() -> None:
    third = torch.tensor([1 / 3], dtype=torch.float64)

    merged = merge_tensor("w", [third, third], _linear([1.0, 1.0]))

    assert torch.equal(merged, third)
    assert merged.dtype == torch.float64


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["head.weight", "bn.running_mean"])
def test_a_value_that_is_not_finite_is_refused_and_named(name: str, value: float) -> None:
    tensors = [torch.ones(2, 2), torch.tensor([[1.0, 1.0], [value, 1.0]])]

    with pytest.raises(InputError) as caught:
        merge_tensor(name, tensors, _linear([1.0, 1.0]))

    assert str(caught.value) == f"tensor {name!r} of model 1: has a value that is not finite"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_variance_that_is_not_finite_is_refused_and_named(value: float) -> None:
    variances = [torch.tensor([1.0]), torch.tensor([value])]

    with pytest.raises(InputError, match=r"tensor 'bn\.running_var' of model 1: has a value that"):
        merge_running_vars("bn.running_var", variances, [torch.zeros(1)] * 2, [1.0, 1.0])


@pytest.mark.parametrize("other", [(3, 4), (4, 3, 1), (4,), ()])
def test_another_shape_is_refused_and_named(other: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        merge_tensor("head.weight", [torch.ones(4, 3), torch.ones(other)], _linear([1.0, 1.0]))

    assert str(caught.value) == (
        f"tensor 'head.weight' of model 1: has shape {other}, model 0 has (4, 3); "
        "merge models of one base"
    )


def test_a_variance_of_another_shape_is_refused_and_named() -> None:
    variances = [torch.ones(4), torch.ones(1)]  # they would broadcast

    with pytest.raises(InputError, match=r"tensor 'bn\.running_var' of model 1: has shape \(1,\)"):
        merge_running_vars("bn.running_var", variances, variances, [1.0, 1.0])


def test_integer_buffers_of_another_shape_are_refused() -> None:
    counts = [torch.tensor(1), torch.tensor([1])]

    with pytest.raises(InputError, match="has shape"):
        merge_tensor("bn.num_batches_tracked", counts, _Never("linear", (1.0, 1.0)))
