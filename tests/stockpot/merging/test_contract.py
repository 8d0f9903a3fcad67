"""The contract of every merge method: a new one is tested by being registered."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.draws import Draws
from stockpot.merging.methods.fisher import Fisher
from stockpot.merging.registry import METHODS, Method

SHAPES = [(), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3)]
REQUIRED = {"t": 0.4}  # a value for the options that have no default


def _gram(tensor: Tensor) -> Tensor | None:
    rows = tensor.double().flatten(1) if tensor.ndim > 1 else None
    return None if rows is None else (rows.mT @ rows).unsqueeze(0)


# What is known of a tensor of a model, of every kind that methods take.
SIDE: dict[str, Callable[[Tensor], Any]] = {
    "fishers": lambda tensor: Fisher(tensor.abs() + 1, norm=2.0),
    "grams": _gram,
}

pytestmark = pytest.mark.parametrize("method", METHODS.values(), ids=[*METHODS])


def each_shape(test: Callable[[Method, tuple[int, ...]], None]) -> Callable[[Method], None]:
    """Return a test of all shapes; a failure names its shape."""

    def test_all(method: Method) -> None:
        for shape in SHAPES:
            try:
                test(method, shape)
            except BaseException as error:
                error.add_note(f"shape {shape}")
                raise

    test_all.__doc__ = test.__doc__
    return test_all


def _num_models(method: Method) -> int:
    least, largest = method.num_models
    return max(least, 3 if largest is None else min(largest, 3))


def _coefficients(method: Method) -> list[float]:
    """Return coefficients that sum to 1."""
    return {1: [1.0], 2: [0.7, 0.3], 3: [0.5, 0.3, 0.2]}[_num_models(method)]


def _tensors(method: Method, shape: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(shape))
    return [torch.randn(shape, generator=generator) for _ in range(_num_models(method))]


def _base(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(99))


def _merge(
    method: Method,
    tensors: list[Tensor],
    base: Tensor,
    coefficients: list[float] | None = None,
    seeds: list[int] | None = None,
) -> Tensor:
    draws = [Draws(seed) for seed in seeds or range(len(tensors))]
    options = {name: REQUIRED[name] for name in method.options if name in REQUIRED}
    side = [SIDE[method.side_information](t) for t in tensors] if method.side_information else []
    return method(tensors, coefficients or _coefficients(method), base, draws, options, side)


@each_shape
def test_shape_and_dtype_are_kept(method: Method, shape: tuple[int, ...]) -> None:
    for dtype in (torch.float32, torch.float64):
        tensors = [tensor.to(dtype) for tensor in _tensors(method, shape)]

        merged = _merge(method, tensors, _base(shape).to(dtype))

        assert merged.shape == shape
        assert merged.dtype == dtype
        assert torch.isfinite(merged).all()


@each_shape
def test_inputs_stay_as_they_are(method: Method, shape: tuple[int, ...]) -> None:
    inputs = [*_tensors(method, shape), _base(shape)]
    copies = [tensor.clone() for tensor in inputs]

    merged = _merge(method, inputs[:-1], inputs[-1])
    merged += 1

    assert all(torch.equal(tensor, copy) for tensor, copy in zip(inputs, copies, strict=True))


@each_shape
def test_models_equal_to_the_base_give_the_base(method: Method, shape: tuple[int, ...]) -> None:
    base = _base(shape)

    merged = _merge(method, [base.clone() for _ in range(_num_models(method))], base)

    torch.testing.assert_close(merged, base)


@each_shape
def test_zeros_everywhere_give_zeros(method: Method, shape: tuple[int, ...]) -> None:
    zeros = torch.zeros(shape)

    merged = _merge(method, [zeros.clone() for _ in range(_num_models(method))], zeros)

    assert torch.equal(merged, zeros)


@each_shape
def test_the_order_of_models_is_without_effect_where_it_should_be(
    method: Method, shape: tuple[int, ...]
) -> None:
    tensors, base = _tensors(method, shape), _base(shape)
    coefficients = _coefficients(method)
    turned = [*range(1, len(tensors)), 0] if method.is_symmetric else [*range(len(tensors))]

    merged = _merge(method, tensors, base)
    of_turned = _merge(
        method, [tensors[p] for p in turned], base, [coefficients[p] for p in turned], turned
    )

    torch.testing.assert_close(of_turned, merged)


@each_shape
def test_the_same_call_gives_the_same_bits(method: Method, shape: tuple[int, ...]) -> None:
    first = _merge(method, _tensors(method, shape), _base(shape))
    torch.rand(3)

    assert torch.equal(_merge(method, _tensors(method, shape), _base(shape)), first)


@each_shape
def test_what_is_not_contiguous_gives_the_same(method: Method, shape: tuple[int, ...]) -> None:
    tensors, base = _tensors(method, shape), _base(shape)
    strided = [torch.stack([tensor, tensor], dim=-1)[..., 0] for tensor in [*tensors, base]]

    merged = _merge(method, strided[:-1], strided[-1])

    torch.testing.assert_close(merged, _merge(method, tensors, base))


@each_shape
def test_nothing_is_merged_to_nothing(method: Method, shape: tuple[int, ...]) -> None:
    empty = torch.zeros((0, *shape))

    merged = _merge(method, [empty.clone() for _ in range(_num_models(method))], empty)

    assert merged.shape == empty.shape


def test_documentation_names_source_and_every_argument(method: Method) -> None:
    text = inspect.getdoc(method.merge) or ""
    names = inspect.signature(method.merge).parameters

    assert all(f"    {name}: " in text for name in names)
    assert "Returns:" in text
    assert "Source:" in text


def test_an_option_that_is_no_number_is_refused(method: Method) -> None:
    numbers = {n for n, d in method.options.items() if type(d) in (int, float) or n in REQUIRED}
    options = {name: REQUIRED[name] for name in method.options if name in REQUIRED}

    for name in numbers:
        with pytest.raises(InputError, match=f"^{method.name}: {name} must be "):
            method.check(_coefficients(method), has_base=True, options=options | {name: -math.inf})
