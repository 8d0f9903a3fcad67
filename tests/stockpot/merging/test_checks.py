"""The contract checks of merge methods: good ones pass, and each check finds a broken one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from stockpot.merging.checks import CHECKS, check_method
from stockpot.merging.draws import Draws
from stockpot.merging.method import Method, method, method_of

_calls = itertools.count()


@method("halves")
def halves(tensors: Sequence[Tensor], coefficients: Sequence[float], *, scale: float = 1) -> Tensor:
    """Average; sound."""
    return (
        scale * sum(t * c for t, c in zip(tensors, coefficients, strict=True)) / sum(coefficients)
    )


@method("refuses_its_default")
def refuses_its_default(tensors: Sequence[Tensor], *, density: float = 0.0) -> Tensor:
    if density <= 0:
        raise ValueError(f"refuses_its_default: density must be above 0, got {density}")
    return tensors[0].clone()


@method("needs_a_value")
def needs_a_value(tensors: Sequence[Tensor], *, t: float) -> Tensor:
    return t * tensors[0] / t


@method("flattens")
def flattens(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0].flatten().clone()


@method("converts")
def converts(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0].double()


@method("divides_by_zero")
def divides_by_zero(tensors: Sequence[Tensor]) -> Tensor:
    return (tensors[0] - tensors[0]) / (tensors[0] - tensors[0])


@method("not_a_tensor")
def not_a_tensor(tensors: Sequence[Tensor]) -> float:
    return float(tensors[0].sum())


@method("in_place")
def in_place(tensors: Sequence[Tensor]) -> Tensor:
    merged = tensors[0]
    for tensor in tensors[1:]:
        merged += tensor
    return merged / len(tensors)


@method("returns_an_input", is_symmetric=False)
def returns_an_input(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0]


@method("global_random_state")
def global_random_state(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] * (torch.rand(tensors[0].shape, dtype=tensors[0].dtype) < 0.5)


@method("other_each_time")
def other_each_time(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] + next(_calls)


@method("three_alone")
def three_alone(tensors: Sequence[Tensor]) -> Tensor:
    first, second, third = tensors
    return (first + second + third) / 3


@method("sums")
def sums(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).sum(dim=0)


@method("prefers_the_first")
def prefers_the_first(tensors: Sequence[Tensor]) -> Tensor:
    return 0.9 * tensors[0] + 0.1 * tensors[-1]


@method("reads_memory")
def reads_memory(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    return torch.as_strided(first, first.shape, torch.empty(first.shape).stride()).clone()


@method("needs_the_whole", is_elementwise=True)
def needs_the_whole(tensors: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
    merged = halves(tensors, coefficients)
    return merged * (merged >= merged.mean()) if merged.numel() > 10 else merged


@method("draws_at_random")
def draws_at_random(tensors: Sequence[Tensor], base: Tensor, *, draws: Sequence[Draws]) -> Tensor:
    """Drop half of the entries of the task vectors; sound."""
    pairs = zip(tensors, draws, strict=True)
    return base + sum((t - base) * own.kept(0.5, t) for t, own in pairs) / len(tensors)


BROKEN: dict[Callable[..., object], tuple[str, str]] = {
    refuses_its_default: ("options are valid", "density must be above 0, got 0"),
    needs_a_value: ("options are valid", "option 't' is required"),
    flattens: ("shapes and dtypes are preserved", r"of shape \(\) .* of shape \(1,\)"),
    converts: ("shapes and dtypes are preserved", "must return torch.float32 .* got torch.float64"),
    divides_by_zero: ("shapes and dtypes are preserved", "finite values, got NaN"),
    not_a_tensor: ("shapes and dtypes are preserved", "must return a tensor, got float"),
    in_place: ("inputs are unchanged", "must leave its inputs unchanged"),
    returns_an_input: ("inputs are unchanged", "shares memory with an input; clone it"),
    global_random_state: ("result is deterministic", "from an argument `draws`"),
    other_each_time: ("result is deterministic", "the same bits for equal inputs"),
    three_alone: ("number of models is free", r"got an error for 1 .*declare num_models"),
    sums: ("equal models give that model", "models equal to the base must be merged to it"),
    prefers_the_first: ("order of models has no effect", "declare is_symmetric=False"),
    reads_memory: ("memory layout has no effect", "not contiguous"),
    needs_the_whole: ("pieces give the whole", "declare is_elementwise=False"),
}


def record(function: Callable[..., object]) -> Method:
    return method_of(function.__name__, function)


@pytest.mark.parametrize("function", [halves, draws_at_random])
def test_a_sound_method_fails_no_check(function: Callable[..., object]) -> None:
    results = list(check_method(record(function)))

    assert [result for result in results if result.outcome == "failed"] == []
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("function", BROKEN, ids=lambda function: function.__name__)
def test_a_broken_method_is_found_with_what_to_change(function: Callable[..., object]) -> None:
    name, message = BROKEN[function]

    results = {result.name: result for result in check_method(record(function))}

    assert results[name].outcome == "failed"
    assert re.search(message, results[name].message), results[name].message


def test_every_check_finds_a_broken_method() -> None:
    assert {name for name, _ in BROKEN.values()} == {c.__name__.replace("_", " ") for c in CHECKS}


def test_an_option_without_a_default_can_be_given() -> None:
    results = list(check_method(record(needs_a_value), {"t": 0.5}))

    assert results[0].outcome == "ok"
