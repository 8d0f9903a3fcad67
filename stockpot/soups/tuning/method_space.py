"""The values of a merge method that a search tries: coefficients of ingredients, and options."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from stockpot.distributions.fields import as_distribution
from stockpot.distributions.values import Choice, Drawn, Integer, LogUniform, Uniform
from stockpot.errors import unknown_name
from stockpot.yaml_files import Section

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

    from stockpot.merging.method import Method

WEIGHT = "weight"
"""The field of the space for the coefficients of ingredients."""


@dataclass(frozen=True)
class MethodSpace:
    """The part of the search space of one method and one group of tensors.

    Attributes:
        method: the merge method.
        weight: the coefficients: on the simplex, or each from a distribution; None: equal ones.
        searched: distributions of options, by name.
        fixed: options with one value; those that are neither have their defaults.
    """

    method: str
    weight: Literal["simplex"] | Drawn | None
    searched: Mapping[str, Drawn]
    fixed: Mapping[str, Any]

    @classmethod
    def of(cls, method: str, space: Mapping[str, Any] | None) -> MethodSpace:
        """Return the part of a space that is for a method.

        Args:
            method: the merge method.
            space: the field of params.yaml; None for the method's own: the simplex of coefficients
                and every option whose signature names a range.

        Raises:
            ValueError: a value is out of its range, or an option without a default is missing.
        """
        record = record_of(method)
        if space is None:
            made = cls(method, *_own_space(record))
        else:
            values = {name: space[name] for name in space if name in record.options}
            searched = {n: as_distribution(v) for n, v in values.items() if isinstance(v, Section)}
            fixed = {n: v for n, v in values.items() if n not in searched}
            takes_weight = WEIGHT in space and record.takes_coefficients
            made = cls(method, _weight(space[WEIGHT]) if takes_weight else None, searched, fixed)
        made._check()
        return made

    @property
    def is_searched(self) -> bool:
        """Whether anything is searched; otherwise there is one candidate."""
        return bool(self.searched) or self.weight is not None

    @property
    def has_numbers_alone(self) -> bool:
        """Whether at least two numbers are searched, and no choices."""
        has_choices = any(isinstance(axis, Choice) for axis in self.searched.values())
        return not has_choices and (self.weight is not None or len(self.searched) > 1)

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return {name: v for name, v in record_of(self.method).options.items() if v is not ...}

    def _check(self) -> None:
        """Check what is searched against the signature, and all corners by the method itself.

        Raises:
            ValueError: an option is missing, or a value is out of range.
        """
        record = record_of(self.method)
        if isinstance(self.weight, Drawn) and self.weight.bounds()[0] < 0:
            raise ValueError(f"space: {WEIGHT} must be >= 0, got {self.weight.bounds()[0]}")
        for name, default in record.options.items():
            self._check_option(name, default)
        if self.searched or self.fixed:
            self._check_corners(record)

    def _check_option(self, name: str, default: Any) -> None:
        if default is ... and name not in {*self.searched, *self.fixed}:
            raise ValueError(f"space: {name} of {self.method} has no default; name it")
        if name in self.searched and isinstance(default, int):
            _check_whole(name, self.searched[name], type(default))

    def _check_corners(self, record: Method) -> None:
        from stockpot.merging.recipe import Recipe

        least, most = record.num_models
        coefficients = (1.0,) * min(max(2, least), most or max(2, least))
        for corner in itertools.product(*map(_ends, self.searched.values())):
            options = {**self.fixed, **dict(zip(self.searched, corner, strict=True))}
            try:
                Recipe(self.method, coefficients, options).check(has_base=True)
            except ValueError as error:
                raise ValueError(f"space: {error}") from error

    def ask(
        self, trial: BaseTrial, prefix: str, num_models: int
    ) -> tuple[tuple[float, ...], dict[str, Any]]:
        """Ask a trial for values.

        Args:
            trial: of Optuna.
            prefix: of the names of its parameters.
            num_models: M.

        Returns:
            The coefficients (M,), and options by name.
        """
        options = {
            name: _suggest(trial, f"{prefix}{name}", axis) for name, axis in self.searched.items()
        }
        if self.weight is None:
            share = 1.0 if self.method == "linear" else 1 / num_models
            return (share,) * num_models, {**self.fixed, **options}
        axis = Uniform(0.0, 1.0) if self.weight == "simplex" else self.weight
        weights = [_suggest(trial, f"{prefix}{WEIGHT} {n}", axis) for n in range(num_models)]
        if self.weight == "simplex" or not any(weights):
            weights = to_simplex(weights)
        return tuple(weights), {**self.fixed, **options}

    def start(self, prefix: str, members: Sequence[int], num_models: int) -> dict[str, Any]:
        """Return the parameters of a soup of some models, with the defaults of options.

        Values outside of the space are replaced by the nearest in it.
        """
        options = {
            f"{prefix}{name}": _nearest(axis, self._defaults.get(name))
            for name, axis in self.searched.items()
        }
        if self.weight is None:
            return options
        axis, share = self.weight, 1 / len(members)
        inside = 1.0 if axis == "simplex" else _nearest(axis, share)
        outside = 0.0 if axis == "simplex" else _nearest(axis, 0.0)
        return options | {
            f"{prefix}{WEIGHT} {n}": inside if n in members else outside for n in range(num_models)
        }


def check_spaces(spaces: Mapping[str, MethodSpace], space: Mapping[str, Any]) -> None:
    """Check that something is searched, and that every field is an option of one of the methods.

    Args:
        spaces: by method, its part of the space.
        space: the field of params.yaml.

    Raises:
        ValueError: nothing is searched, or with the first field that is no option.
    """
    known = {name for method in spaces for name in record_of(method).options}
    if any(record_of(method).takes_coefficients for method in spaces):
        known.add(WEIGHT)
    for name in space:
        if name not in known:
            raise ValueError(f"space: {unknown_name('option', name, sorted(known))}")
    if not any(one.is_searched for one in spaces.values()):
        methods = " and ".join(map(repr, spaces))
        raise ValueError(
            f"space: names nothing to search for method {methods}; choose from {sorted(known)}"
        )


def to_simplex(position: Sequence[float]) -> list[float]:
    """Map a point of the unit box (M,) to M coefficients >= 0 that sum to 1.

    The point is divided by its sum, so that a corner of the box is the mean of some ingredients
    exactly, such as the warm starts (uniform, greedy, best single). The origin is mapped to the
    uniform soup.
    """
    total = sum(position)
    if total == 0:
        return [1 / len(position)] * len(position)
    return [value / total for value in position]


def record_of(method: str) -> Method:
    """Return a merge method; its module is imported, so that params.yaml is read without torch."""
    from stockpot.merging.registry import METHODS

    return METHODS[method]


def _own_space(
    method: Method,
) -> tuple[Literal["simplex"] | None, dict[str, Drawn], dict[str, Any]]:
    from stockpot.merging.option_types import option_types
    from stockpot.merging.search_ranges import SearchRange

    ranges = {
        name: found
        for name, kind in option_types(method.merge, method.options).items()
        for found in getattr(kind, "__metadata__", ())
        if isinstance(found, SearchRange)
    }
    searched: dict[str, Drawn] = {
        name: (LogUniform if found.is_log else Uniform)(found.low, found.high)
        for name, found in ranges.items()
    }
    return "simplex" if method.takes_coefficients else None, searched, {}


def _weight(value: Any) -> Literal["simplex"] | Drawn:
    if value == "simplex":
        return "simplex"
    if isinstance(value, Section):
        return as_distribution(value)
    raise ValueError(f"space: {WEIGHT} must be simplex or a distribution, got {value!r}")


def _ends(axis: Drawn) -> Sequence[Any]:
    return axis.choices if isinstance(axis, Choice) else axis.bounds()


def _check_whole(name: str, axis: Drawn, kind: type) -> None:
    """Require whole numbers, or truth values, for an option that is one.

    Raises:
        ValueError: the distribution has others.
    """
    values = axis.choices if isinstance(axis, Choice) else axis.bounds()
    if kind is bool and not all(isinstance(value, bool) for value in values):
        raise ValueError(f"space: {name} must be a choice of true and false, got {[*values]}")
    if kind is int and not (isinstance(axis, Choice | Integer) and axis.is_whole()):
        raise ValueError(
            f"space: {name} must be whole numbers, got {[*values]}; use integer or choice"
        )


def _nearest(axis: Drawn, value: Any) -> Any:
    """Return the value of a distribution that is nearest to another; its middle for None."""
    if isinstance(axis, Choice):
        return value if value in axis.choices else axis.choices[0]
    low, high = axis.bounds()
    return axis.at(0.5) if value is None else min(max(value, low), high)


def _suggest(trial: BaseTrial, name: str, axis: Drawn) -> Any:
    if isinstance(axis, Choice):
        return trial.suggest_categorical(name, axis.choices)
    if isinstance(axis, Integer):
        return trial.suggest_int(name, axis.low, axis.high)
    return trial.suggest_float(name, axis.low, axis.high, log=isinstance(axis, LogUniform))
