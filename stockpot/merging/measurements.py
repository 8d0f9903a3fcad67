"""Measurements of whole tensors for merge methods, cached between merges of the same models."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from stockpot.merging.per_model import each

if TYPE_CHECKING:
    from stockpot.merging.draws import Draws
    from stockpot.merging.recipe import Recipe
    from stockpot.merging.runs import Runs

_MOST = 100_000  # measurements, of which most are a few numbers
_DEPENDS = "depends_on"

M = TypeVar("M", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Dependence:
    """The options that measurements depend on, and whether each model is measured alone."""

    options: tuple[str, ...]
    is_of_each: bool


def depends_on(*options: str, of_each: bool = False) -> Callable[[M], M]:
    """Declare the options that a method's `measure` depends on; without this, on all.

    Args:
        options: their names.
        of_each: whether it returns a list with one entry per model, which depends on no other
            model, so that it is measured once for all merges with this model.
    """

    def declare(measure: M) -> M:
        setattr(measure, _DEPENDS, Dependence(options, of_each))
        return measure

    return declare


class Measurements:
    """A cache of what merge methods have measured of models."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def of(self, asked: Asked) -> Any:
        """Return the measurements of some models by a recipe; None if its method needs none."""
        if asked.recipe.method_itself.measure is None:
            return None
        if len(self._known) > _MOST:
            self._known.clear()
        every = range(len(asked.models))
        if not asked.dependence.is_of_each:
            if asked.key(every) not in self._known:
                self._known[asked.key(every)] = asked.measure(every)
            return self._known[asked.key(every)]
        keys = [asked.key([place]) for place in every]
        missing = [place for place in every if keys[place] not in self._known]
        if missing:
            for place, measured in zip(missing, asked.measure(missing), strict=True):
                self._known[keys[place]] = measured
        return [self._known[key] for key in keys]


@dataclass(frozen=True)
class Asked:
    """A request for a measurement.

    Attributes:
        what: identifies the entries, such as a tensor's name.
        recipe: with one coefficient per model.
        models: identify the models, in the order of the merge.
        runs_of: places in `models` -> the entries of these.
        draws: random numbers, one per model, if the method uses them.
    """

    what: Hashable
    recipe: Recipe
    models: Sequence[int]
    runs_of: Callable[[Sequence[int]], Runs]
    draws: Sequence[Draws] = ()

    @cached_property
    def dependence(self) -> Dependence:
        """The options that the measurements depend on."""
        on_all = Dependence(tuple(self._options), is_of_each=False)
        found: Dependence = getattr(self.recipe.method_itself.measure, _DEPENDS, on_all)
        return found

    def key(self, places: Sequence[int]) -> Hashable:
        """Return what the measurements of some of the models are known by."""
        chosen = tuple(self.models[place] for place in places)
        draws = tuple(self._draws(places))
        measure = self.recipe.method_itself.measure
        return self.what, measure, chosen, draws, repr(self._options_of(places))

    def measure(self, places: Sequence[int]) -> Any:
        """Measure some of the models."""
        measure = self.recipe.method_itself.measure
        assert measure is not None, "there is something to measure"
        return measure(self.runs_of(places), self._draws(places), self._options_of(places))

    def _draws(self, places: Sequence[int]) -> list[Draws]:
        return [self.draws[place] for place in places if self.draws]

    def _options_of(self, places: Sequence[int]) -> dict[str, Any]:
        """Return the options that the measurements depend on, for some of the models."""
        own = {name: self._options[name] for name in self.dependence.options}
        if self.dependence.is_of_each:
            for name in own.keys() & set(self.recipe.method_itself.per_model):
                values = each(own[name], len(self.models))
                own[name] = tuple(values[place] for place in places)
        return own

    @cached_property
    def _options(self) -> dict[str, Any]:
        return {**self.recipe.method_itself.options, **self.recipe.options}
