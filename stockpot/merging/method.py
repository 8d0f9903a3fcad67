"""Merge methods: functions whose signatures say what they need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from stockpot.errors import InputError
from stockpot.merging.lines import LINES, check_lines
from stockpot.merging.option_types import option_types
from stockpot.merging.per_model import check_per_model, is_per_model
from stockpot.plugins import Option, check_options

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.draws import Draws
    from stockpot.merging.runs import Run, Runs

    # Same-named tensors of all models, float32 or wider -> one of their shape and dtype.
    MergeFunction = Callable[..., Tensor]
    MeasureFunction = Callable[[Runs, Sequence[Draws], Mapping[str, Any]], Any]
    RowLength = Callable[[Sequence[int], Mapping[str, Any]], int | None]

_LARGEST = 3.4e38  # in float32
_NO_OPTIONS = {"draws", "measured", "name", "start"}

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Method:
    """A registered merge method.

    Attributes:
        name: the name in params.yaml and merge files.
        merge: the function. Its signature says what it takes: `tensors`; `base`, `coefficients`
            and side information if it uses them; then keyword-only options; `draws`, one per
            model, if it uses random numbers; `measured` and `start`, if it merges parts of
            tensors and needs measurements of the whole ones, or the part's position; `name`, if
            it treats tensors differently.
        num_models: the smallest and the largest number of models; None for no limit.
        is_symmetric: whether the order of (tensor, coefficient) pairs has no effect.
        is_elementwise: whether an entry of the result depends only on that entry of the inputs
            and on `measured`, so that a big tensor can be merged in parts.
        row_length: (shape, options) -> the number of entries of a row, for an elementwise method
            whose result depends on the whole row of an entry; None where it does not. Parts then
            are of whole rows, and the tensors that it gets have the shape (rows, row).
        is_sum: whether it is elementwise and a weighted sum, so that an entry that is not finite in
            any model is not finite in the result either; it also takes tensors of other
            floating-point dtypes, which it converts to float32 itself, one at a time.
        measure: measures whole tensors; returns the argument `measured`.
        check_names: (names of the models' tensors, options): raises ValueError if it cannot merge
            models of such tensors.
        run_coefficients: (number of models, options) -> their coefficients, for a method that
            merges checkpoints of one run, in its order.
    """

    name: str
    merge: MergeFunction
    num_models: tuple[int, int | None] = (1, None)
    is_symmetric: bool = True
    is_elementwise: bool = False
    row_length: RowLength | None = None
    is_sum: bool = False
    measure: MeasureFunction | None = None
    check_names: Callable[[Collection[str], Mapping[str, Any]], None] | None = None
    run_coefficients: Callable[[int, Mapping[str, Any]], list[float]] | None = None

    @property
    def needs_base(self) -> bool:
        """Whether it requires the model that the others were fine-tuned from."""
        return self.takes_base and self._parameters["base"].default is inspect.Parameter.empty

    @property
    def takes_base(self) -> bool:
        """Whether it uses the base; if it does not require one, it merges weights without."""
        return "base" in self._parameters

    @property
    def takes_coefficients(self) -> bool:
        """Whether models have coefficients."""
        return "coefficients" in self._parameters

    @property
    def side_information(self) -> str | None:
        """The argument for statistics of each model that are computed from data, by name.

        They are given per tensor. None if it takes no such argument.
        """
        known = {"tensors", "base", "coefficients"}
        positional = [n for n, p in self._parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        return next((name for name in positional if name not in known), None)

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        return "draws" in self._parameters

    @property
    def options(self) -> Mapping[str, Any]:
        """The options with their defaults; `...` for one that is required."""
        return {
            name: ... if parameter.default is parameter.empty else parameter.default
            for name, parameter in self._parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in _NO_OPTIONS
        }

    @cached_property  # it is asked for with each measurement
    def per_model(self) -> list[str]:
        """The options that may differ between models: those annotated as `PerModel`."""
        return [
            n for n, kind in option_types(self.merge, self.options).items() if is_per_model(kind)
        ]

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
        *,
        name: str = "",
    ) -> Tensor:
        """Merge whole tensors; arguments that the method does not take are ignored."""
        taken = self._taken(base=base, coefficients=coefficients, draws=draws, name=name)
        if self.side_information is not None:
            if len(side) != len(tensors):
                raise ValueError(
                    f"{self.name}: needs {self.side_information} of {len(tensors)} models, which "
                    f"take data, got {len(side)}"
                )
            taken[self.side_information] = side
        return self.merge(tensors, **taken, **self.own(options))

    def merge_run(
        self,
        run: Run,
        coefficients: Sequence[float],
        draws: Sequence[Draws],
        measured: Any,
        options: Mapping[str, Any],
    ) -> Tensor:
        """Merge a run of entries, by an elementwise method."""
        taken = self._taken(
            base=run.base,
            coefficients=coefficients,
            draws=[own.at(run.start) for own in draws],
            measured=measured,
            start=run.start,
        )
        return self.merge(run.tensors, **taken, **self.own(options))

    def shares(self, coefficients: Sequence[float], options: Mapping[str, Any]) -> list[float]:
        """Return the coefficients of averages: those given, or those that the method computes."""
        if self.run_coefficients is None:
            return list(coefficients)
        return self.run_coefficients(len(coefficients), {**self.options, **options})

    def own(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of the method itself, without those of LiNeS."""
        return {name: value for name, value in options.items() if name not in LINES}

    def measured(self, runs: Runs, draws: Sequence[Draws], options: Mapping[str, Any]) -> Any:
        """Measure whole tensors, if the method needs it."""
        return self.measure and self.measure(runs, draws, {**self.options, **options})

    def _taken(self, **given: Any) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name in self._parameters}

    def check(
        self, coefficients: Sequence[float], *, has_base: bool, options: Mapping[str, Any]
    ) -> None:
        """Check the arguments of a merge, before anything is read.

        Args:
            coefficients: one per model.
            has_base: whether there is a base.
            options: options of the method, by name.

        Raises:
            InputError: too few or too many models, no base, invalid coefficients, or an option
                that is unknown, missing or out of its range.
        """
        num_models = len(coefficients)
        least, largest = self.num_models
        if num_models < least or (largest is not None and num_models > largest):
            limit = f"{least}" if largest == least else f"{least} to {largest or 'any number of'}"
            raise InputError(f"{self.name}: merges {limit} models, got {num_models}")
        if self.needs_base and not has_base:
            raise InputError(f"{self.name}: needs a base, which the models started from, got none")
        lines = LINES if self.needs_base else {}
        defaults = {**self.options, **lines}
        for coefficient in coefficients:
            if not abs(coefficient) <= _LARGEST:  # also NaN
                raise InputError(
                    f"{self.name}: coefficients must be finite in float32, got {coefficient}"
                )
        known = {name: Option(Any, default) for name, default in defaults.items()}
        check_options(self.name, known, options)
        for name, value in options.items():
            if isinstance(value, list | tuple):
                check_per_model(self.name, name, value, num_models, self.per_model)
        check_lines(self.name, options)
        self._try(coefficients, options, has_base=has_base)

    def _try(
        self, coefficients: Sequence[float], options: Mapping[str, Any], *, has_base: bool
    ) -> None:
        """Merge tensors of four entries, since the method itself checks its options."""
        import torch

        from stockpot.merging.draws import Draws

        generator = torch.Generator().manual_seed(0)
        tensors = [torch.randn(2, 2, generator=generator) for _ in coefficients]
        base = torch.zeros(2, 2) if has_base else None
        draws, nothing = [Draws(0)] * len(tensors), [None] * len(tensors)
        try:
            self(tensors, coefficients, base, draws, options, nothing)
        except ValueError as error:
            raise InputError(str(error)) from error
        except (TypeError, OverflowError) as error:
            raise InputError(f"{self.name}: bad options {dict(options)} ({error})") from error

    @cached_property  # reading a signature takes longer than merging a run
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.merge).parameters


_RECORDS: dict[Callable[..., Any], Method] = {}
"""The `Method` of each decorated function."""


def method(
    name: str,
    *,
    num_models: tuple[int, int | None] = (1, None),
    is_symmetric: bool = True,
    is_elementwise: bool = False,
    row_length: RowLength | None = None,
    is_sum: bool = False,
    measure: MeasureFunction | None = None,
    check_names: Callable[[Collection[str], Mapping[str, Any]], None] | None = None,
    run_coefficients: Callable[[int, Mapping[str, Any]], list[float]] | None = None,
) -> Callable[[F], F]:
    """Register a function as a merge method and return it unchanged.

    The arguments are those of `Method`.
    """

    def record(merge: F) -> F:
        _RECORDS[merge] = Method(
            name,
            merge,
            num_models,
            is_symmetric,
            is_elementwise,
            row_length,
            is_sum,
            measure,
            check_names,
            run_coefficients,
        )
        return merge

    return record


def method_of(place: str, merge: Callable[..., Any]) -> Method:
    """Return the `Method` of a function.

    Args:
        place: the function's name in errors.
        merge: the function.

    Raises:
        InputError: the function is not decorated as a merge method.
    """
    if merge not in _RECORDS:
        raise InputError(
            f"merge method {place!r}: must be decorated with @stockpot.merging.method.method(name)"
        )
    return _RECORDS[merge]
