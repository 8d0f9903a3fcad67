"""Contract checks of merge methods: what the engine relies on.

Each check takes a `CheckedMethod` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.method import Method
from stockpot.merging.methods.fisher import Fisher
from stockpot.merging.runs import Runs
from stockpot.plugins import Check, CheckResult, Skipped, run_checks

SHAPES = ((), (1,), (7,), (64,), (3, 5), (2, 3, 3, 3), (0,), (0, 4), (0, 2, 3, 3))
_MOST_MODELS = 5  # that are tried of a method without a limit

Shape = tuple[int, ...]


def _gram(tensor: Tensor) -> Tensor | None:
    rows = tensor.double().flatten(1) if tensor.ndim > 1 else None
    return None if rows is None else (rows.mT @ rows).unsqueeze(0)


# By the name of the argument, what methods take of each tensor besides its values.
_SIDE_INFORMATION: Mapping[str, Callable[[Tensor], Any]] = {
    "cross_grams": _gram,
    "features": lambda tensor: tensor.double().square() if tensor.ndim == 1 else _gram(tensor),
    "fishers": lambda tensor: Fisher(tensor.abs() + 1, norm=2.0),
    "grams": _gram,
    "localized": lambda tensor: tensor > 0,
}


def side_information(method: Method, tensors: Sequence[Tensor]) -> list[Any]:
    """Make up what a method takes of each tensor besides its values; empty if it takes nothing."""
    name = method.side_information
    return [] if name is None else [_SIDE_INFORMATION[name](tensor) for tensor in tensors]


@dataclass(frozen=True)
class CheckedMethod:
    """A method under check.

    Attributes:
        method: the method.
        options: values of its options; those that have no default must be given.
    """

    method: Method
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_models(self) -> int:
        """Three models, or as many of them as the method takes."""
        least, largest = self.method.num_models
        return max(least, min(largest or 3, 3))

    def tensors(self, shape: Shape, count: int | None = None) -> list[Tensor]:
        """Draw the tensors of several models, equal for equal arguments; float32."""
        generator = torch.Generator().manual_seed(len(shape))
        return [torch.randn(shape, generator=generator) for _ in range(count or self.num_models)]

    def merge(
        self, tensors: Sequence[Tensor], base: Tensor, order: Sequence[int] | None = None
    ) -> Tensor:
        """Merge tensors with coefficients and random draws that depend on the model's number.

        Args:
            tensors: the tensor of each model.
            base: the tensor of the base.
            order: the number of the model that each tensor belongs to; 0, 1, 2, ... by default.
        """
        numbers = [*range(len(tensors))] if order is None else order
        coefficients = _coefficients(len(tensors))
        return self.method(
            tensors,
            [coefficients[number] for number in numbers],
            base,
            [Draws(number) for number in numbers],
            self.options,
            side_information(self.method, tensors),
        )


def options_are_valid(checked: CheckedMethod) -> str | None:
    """The defaults of all options are valid values, and options without one are given."""
    method = checked.method
    if method.side_information not in (None, *_SIDE_INFORMATION):
        raise Skipped(f"{method.side_information} of models cannot be made up")
    method.check(_coefficients(checked.num_models), has_base=True, options=checked.options)
    return None


def shapes_and_dtypes_are_preserved(checked: CheckedMethod) -> str | None:
    """The result has the shape and dtype of the inputs, also for scalars, and is finite."""
    for shape in SHAPES:
        for dtype in (torch.float32, torch.float64):
            tensors = [tensor.to(dtype) for tensor in checked.tensors(shape)]
            merged: Any = checked.merge(tensors, _base(shape).to(dtype))
            if not isinstance(merged, Tensor):
                return f"must return a tensor, got {type(merged).__name__}"
            if merged.shape != shape or merged.dtype != dtype:
                return (
                    f"must return {dtype} of shape {shape} for such tensors, got {merged.dtype} "
                    f"of shape {(*merged.shape,)}; do not flatten, and convert nothing"
                )
            if not merged.isfinite().all():
                return f"must return finite values, got NaN or infinity for the shape {shape}"
    return None


def inputs_are_unchanged(checked: CheckedMethod) -> str | None:
    """The inputs are not modified, and the result shares no memory with them."""
    for shape in SHAPES:
        inputs = [*checked.tensors(shape), _base(shape)]
        copies = [tensor.clone() for tensor in inputs]
        merged = checked.merge(inputs[:-1], inputs[-1])
        if not all(map(torch.equal, inputs, copies)):
            return "must leave its inputs unchanged, got a modified one; avoid in-place operations"
        merged += 1
        if not all(map(torch.equal, inputs, copies)):
            return "must return a new tensor, got one that shares memory with an input; clone it"
    return None


def result_is_deterministic(checked: CheckedMethod) -> str | None:
    """Equal inputs give the same bits, whatever the global random state."""
    for shape in SHAPES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            first = checked.merge(checked.tensors(shape), _base(shape))
            torch.manual_seed(2)
            second = checked.merge(checked.tensors(shape), _base(shape))
        if not torch.equal(first, second):
            return (
                "must return the same bits for equal inputs, got others; take random numbers from "
                "an argument `draws`"
            )
    return None


def number_of_models_is_free(checked: CheckedMethod) -> str | None:
    """Any number of models that the method declares (`num_models`) can be merged."""
    least, largest = checked.method.num_models
    for count in range(least, min(largest or _MOST_MODELS, _MOST_MODELS) + 1):
        try:
            merged = checked.merge(checked.tensors((3, 5), count), _base((3, 5)))
        except (ValueError, IndexError) as error:
            return (
                f"must merge {least} to {largest or 'any number of'} models, got an error for "
                f"{count} ({error}); declare num_models=(least, most)"
            )
        if merged.shape != (3, 5):
            return f"must merge {count} models to one tensor, got the shape {(*merged.shape,)}"
    return None


def equal_models_give_that_model(checked: CheckedMethod) -> str | None:
    """Models that are equal, and equal to the base, are merged to that model, up to 1e-6."""
    for shape in SHAPES:
        for model in (_base(shape), torch.zeros(shape)):
            copies = [model.clone() for _ in range(checked.num_models)]
            merged = checked.merge(copies, model.clone())
            if not torch.allclose(merged, model, rtol=1e-6, atol=1e-6):
                return (
                    "models equal to the base must be merged to it, got a difference of "
                    f"{(merged - model).abs().max():g} for the shape {shape}; divide by the sum "
                    "of coefficients, or add task vectors to the base"
                )
    return None


def order_of_models_has_no_effect(checked: CheckedMethod) -> str | None:
    """Models in another order, with their coefficients, give the same result up to rounding."""
    if not checked.method.is_symmetric:
        raise Skipped("declared as is_symmetric=False")
    for shape in SHAPES:
        tensors = checked.tensors(shape)
        order = [*range(1, len(tensors)), 0]
        merged = checked.merge(tensors, _base(shape))
        if not _close(checked.merge([tensors[p] for p in order], _base(shape), order), merged):
            return (
                "must not depend on the order of models, got another result; declare "
                "is_symmetric=False if it is meant to"
            )
    return None


def memory_layout_has_no_effect(checked: CheckedMethod) -> str | None:
    """Tensors that are not contiguous in memory give the same result up to rounding."""
    for shape in SHAPES:
        tensors, base = checked.tensors(shape), _base(shape)
        strided = [torch.stack([tensor, tensor], dim=-1)[..., 0] for tensor in (*tensors, base)]
        if not _close(checked.merge(strided[:-1], strided[-1]), checked.merge(tensors, base)):
            return (
                "must not depend on the memory layout of tensors, got another result for tensors "
                "that are not contiguous; use reshape() instead of view()"
            )
    return None


def pieces_give_the_whole(checked: CheckedMethod) -> str | None:
    """An elementwise method gives the same result when a tensor is merged in pieces."""
    method = checked.method
    if not method.is_elementwise:
        raise Skipped("not declared as is_elementwise=True")
    tensors, base = checked.tensors((16, 4)), _base((16, 4))
    coefficients, draws = _coefficients(len(tensors)), [Draws(n) for n in range(len(tensors))]
    row = method.row_length and method.row_length((16, 4), {**method.options, **checked.options})
    runs = Runs.of(tensors, base if method.takes_base else None, row)
    measured = method.measured(runs, draws, checked.options)
    pieces = [
        method.merge_run(runs.read(*bounds), coefficients, draws, measured, checked.options)
        for bounds in ((0, 20), (20, 64))
    ]
    if not _close(torch.cat(pieces).view(16, 4), checked.merge(tensors, base)):
        return (
            "must give the same result in pieces, got another; declare is_elementwise=False, or "
            "take what it needs of whole tensors from an argument `measured`"
        )
    return None


CHECKS: dict[Check[CheckedMethod], tuple[Check[CheckedMethod], ...]] = {
    options_are_valid: (),
    shapes_and_dtypes_are_preserved: (options_are_valid,),
    inputs_are_unchanged: (shapes_and_dtypes_are_preserved,),
    result_is_deterministic: (shapes_and_dtypes_are_preserved,),
    number_of_models_is_free: (shapes_and_dtypes_are_preserved,),
    equal_models_give_that_model: (shapes_and_dtypes_are_preserved,),
    order_of_models_has_no_effect: (result_is_deterministic,),
    memory_layout_has_no_effect: (result_is_deterministic,),
    pieces_give_the_whole: (result_is_deterministic,),
}
"""The checks in order, each with those that it requires."""


def check_method(
    method: Method, options: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[CheckResult]:
    """Check a merge method on random tensors and yield the result of each check.

    Args:
        method: the method, e.g. `stockpot.merging.registry.METHODS["my_module:my_method"]`.
        options: values of its options; those that have no default must be given.
    """
    yield from run_checks(CHECKS, CheckedMethod(method, options))


def _base(shape: Shape) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(99))


def _coefficients(count: int) -> list[float]:
    """Return different coefficients that sum to 1."""
    total = count * (count + 1) / 2
    return [(count - place) / total for place in range(count)]


def _close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-5, atol=1e-5)
