"""What a merge method is: a function, and what its signature says that it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from stockpot.errors import InputError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws
    from stockpot.merging.runs import Run, Runs

    # Same-named tensors of all models, in float32 or wider, to one of their shape and dtype.
    MergeFunction = Callable[..., Tensor]
    MeasureFunction = Callable[[Runs, Sequence[Draws], Mapping[str, Any]], Any]

_NO_OPTIONS = {"draws", "measured", "start"}

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Method:
    """A registered merge method.

    Attributes:
        name: what configurations call it.
        merge: the function; its signature says what it takes: `tensors`, then `base`,
            `coefficients` and side information if it uses them; then options; `draws`, one a
            model, if it draws random numbers; `measured` and `start`, if it merges entries
            apart from the others and needs to know of these, or where they are.
        num_models: the least and the largest number of models; None for no limit.
        is_symmetric: whether the order of (tensor, coefficient) pairs is without effect.
        is_elementwise: whether an entry of the result depends on that entry of the inputs, and
            on what was measured, alone, so that a big tensor can be merged in pieces.
        measure: returns what must be known of whole tensors, the argument `measured`.
    """

    name: str
    merge: MergeFunction
    num_models: tuple[int, int | None] = (1, None)
    is_symmetric: bool = True
    is_elementwise: bool = False
    measure: MeasureFunction | None = None

    @property
    def needs_base(self) -> bool:
        """Whether it cannot do without the model that the others were fine-tuned from."""
        return "base" in self._parameters and not self.base_is_optional

    @property
    def base_is_optional(self) -> bool:
        """Whether it merges task vectors if there is a base, and weights otherwise."""
        return "base" in self._parameters and self._parameters["base"].default is None

    @property
    def takes_base(self) -> bool:
        """Whether it is given the base, if there is one."""
        return "base" in self._parameters

    @property
    def takes_coefficients(self) -> bool:
        """Whether models may count differently."""
        return "coefficients" in self._parameters

    @property
    def side_information(self) -> str | None:
        """What it takes of each model beside the weights, by the argument's name; None: nothing.

        It is computed from data, tensor by tensor, before anything is merged.
        """
        known = {"tensors", "base", "coefficients"}
        further = [
            name
            for name, parameter in self._parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in known
        ]
        return further[0] if further else None

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        return "draws" in self._parameters

    @property
    def options(self) -> Mapping[str, Any]:
        """The options with their defaults; `inspect.Parameter.empty` for one that is required."""
        return MappingProxyType(
            {
                name: parameter.default
                for name, parameter in self._parameters.items()
                if parameter.kind is parameter.KEYWORD_ONLY and name not in _NO_OPTIONS
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
        draws: Sequence[Draws] = (),
        options: Mapping[str, Any] = MappingProxyType({}),
        side: Sequence[Any] = (),
    ) -> Tensor:
        """Merge whole tensors, with those of the arguments that the method takes."""
        taken = self._taken(base=base, coefficients=coefficients, draws=draws)
        if self.side_information is not None:
            if len(side) != len(tensors):
                raise ValueError(
                    f"{self.name}: needs {self.side_information} of {len(tensors)} models, which "
                    f"take data, got {len(side)}"
                )
            taken[self.side_information] = side
        merged: Tensor = self.merge(tensors, **taken, **options)
        return merged

    def merge_run(
        self,
        run: Run,
        coefficients: Sequence[float],
        draws: Sequence[Draws],
        measured: Any,
        options: Mapping[str, Any],
    ) -> Tensor:
        """Merge a run of entries of a method that is elementwise."""
        taken = self._taken(
            base=run.base,
            coefficients=coefficients,
            draws=[own.at(run.start) for own in draws],
            measured=measured,
            start=run.start,
        )
        merged: Tensor = self.merge(run.tensors, **taken, **options)
        return merged

    def measured(self, runs: Runs, draws: Sequence[Draws], options: Mapping[str, Any]) -> Any:
        """Measure whole tensors, if the method needs it."""
        return self.measure and self.measure(runs, draws, {**self.options, **options})

    def _taken(self, **given: Any) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name in self._parameters}

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

        from stockpot.merging.draws import Draws

        generator = torch.Generator().manual_seed(0)
        tensors = [torch.randn(2, 2, generator=generator) for _ in coefficients]
        base = torch.zeros(2, 2) if has_base else None
        try:
            nothing = [None] * len(tensors)
            self(tensors, coefficients, base, [Draws(0)] * len(tensors), options, nothing)
        except (ValueError, TypeError) as error:
            raise InputError(str(error)) from error

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return _parameters_of(self.merge)


@cache  # a run of entries is merged in less time than a signature is read
def _parameters_of(merge: MergeFunction) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(merge).parameters


_RECORDS: dict[Callable[..., Any], Method] = {}
"""The record of each function that `method` decorates."""


def method(
    name: str,
    *,
    num_models: tuple[int, int | None] = (1, None),
    is_symmetric: bool = True,
    is_elementwise: bool = False,
    measure: MeasureFunction | None = None,
) -> Callable[[F], F]:
    """Mark a function as a merge method and return it unchanged; `Method` has the arguments."""

    def record(merge: F) -> F:
        _RECORDS[merge] = Method(name, merge, num_models, is_symmetric, is_elementwise, measure)
        return merge

    return record


def method_of(place: str, merge: Callable[..., Any]) -> Method:
    """Return the record of a function.

    Raises:
        InputError: the function is not marked as a merge method.
    """
    if merge not in _RECORDS:
        raise InputError(
            f"merge method {place!r}: must be decorated with @stockpot.merging.method.method(name)"
        )
    return _RECORDS[merge]
