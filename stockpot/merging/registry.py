"""The merge methods by name, each with what it needs: all of it read from its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from stockpot.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import Generator, Tensor

    # Same-named tensors of all models, in float32 or wider, to one of their shape and dtype.
    MergeFunction = Callable[..., Tensor]

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Method:
    """A registered merge method.

    Attributes:
        name: what configurations call it.
        merge: the function; its signature says what it takes: `tensors`, then `base` and
            `coefficients` if it uses them; then options, and `generators`, one a model, if it
            draws random numbers.
        num_models: the least and the largest number of models; None for no limit.
        is_symmetric: whether the order of (tensor, coefficient) pairs is without effect.
        is_elementwise: whether an entry of the result depends on that entry of the inputs alone,
            so that a big tensor can be merged in pieces.
    """

    name: str
    merge: MergeFunction
    num_models: tuple[int, int | None] = (1, None)
    is_symmetric: bool = True
    is_elementwise: bool = False

    @property
    def needs_base(self) -> bool:
        """Whether it cannot do without the model that the others were fine-tuned from."""
        return "base" in self._parameters and not self.base_is_optional

    @property
    def base_is_optional(self) -> bool:
        """Whether it merges task vectors if there is a base, and weights otherwise."""
        return "base" in self._parameters and self._parameters["base"].default is None

    @property
    def takes_coefficients(self) -> bool:
        """Whether models may count differently."""
        return "coefficients" in self._parameters

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        return "generators" in self._parameters

    @property
    def options(self) -> Mapping[str, Any]:
        """The options with their defaults; `inspect.Parameter.empty` for one that is required."""
        return MappingProxyType(
            {
                name: parameter.default
                for name, parameter in self._parameters.items()
                if parameter.kind is parameter.KEYWORD_ONLY and name != "generators"
            }
        )

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return (inspect.getdoc(self.merge) or "").partition("\n")[0]

    def __call__(
        self,
        tensors: Sequence[Tensor],
        coefficients: Sequence[float],
        base: Tensor | None = None,
        generators: Sequence[Generator] = (),
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Tensor:
        """Merge, with those of the arguments that the method takes."""
        given = {"base": base, "coefficients": coefficients, "generators": generators}
        taken = {name: value for name, value in given.items() if name in self._parameters}
        merged: Tensor = self.merge(tensors, **taken, **options)
        return merged

    def check(
        self, coefficients: Sequence[float], *, has_base: bool, options: Mapping[str, Any]
    ) -> None:
        """Refuse what the method cannot do, before anything is read.

        Args:
            coefficients: one a model.
            has_base: whether there is a base.
            options: the method's own, by name.

        Raises:
            InputError: too few or too many models, no base, coefficients that cannot be, or an
                option that is unknown, missing or out of its range.
        """
        num_models = len(coefficients)
        least, largest = self.num_models
        if num_models < least or (largest is not None and num_models > largest):
            limit = f"{least}" if largest == least else f"{least} to {largest or 'any number of'}"
            raise InputError(f"{self.name}: merges {limit} models, got {num_models}")
        if self.needs_base and not has_base:
            raise InputError(f"{self.name}: needs a base, the model that the others started from")
        for name in options:
            if name not in self.options:
                raise InputError(f"{self.name}: {unknown_name('option', name, self.options)}")
        missing = [n for n, default in self.options.items() if default is inspect.Parameter.empty]
        for name in missing:
            if name not in options:
                raise InputError(f"{self.name}: option {name!r} is required, got nothing")
        self._try(coefficients, options, has_base=has_base)

    def _try(
        self, coefficients: Sequence[float], options: Mapping[str, Any], *, has_base: bool
    ) -> None:
        """Merge tensors of four entries: the method itself says what an option may be."""
        import torch

        generator = torch.Generator().manual_seed(0)
        tensors = [torch.randn(2, 2, generator=generator) for _ in coefficients]
        base = torch.zeros(2, 2) if has_base else None
        try:
            self(tensors, coefficients, base, [generator] * len(tensors), options)
        except (ValueError, TypeError) as error:
            raise InputError(str(error)) from error

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.merge).parameters


METHODS: dict[str, Method] = {}


def method(
    name: str,
    *,
    num_models: tuple[int, int | None] = (1, None),
    is_symmetric: bool = True,
    is_elementwise: bool = False,
) -> Callable[[F], F]:
    """Register the decorated function as the merge method `name`; it is returned unchanged."""

    def register(merge: F) -> F:
        if name in METHODS:
            raise ValueError(f"merge method {name!r} is registered twice")
        METHODS[name] = Method(name, merge, num_models, is_symmetric, is_elementwise)
        return merge

    return register
