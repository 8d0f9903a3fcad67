"""A search written as a function, outside the library."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockpot.errors import InputError
from stockpot.plugins import Option, options_of
from stockpot.soups.tuning.search import Found, Search, SearchContext, problem_of, trial_json

_RECIPE_FIELDS = {"name", "search", "method", "objectives", "options", "per"}


@dataclass(frozen=True, slots=True)
class Mixing:
    """The argument of a custom search.

    Attributes:
        names: names of the M ingredients, best val score first.
        scores: their val scores; higher is better.
        score: coefficients (M,) -> val score of the average of the models weighted by them.
        seed: the seed of the experiment.
    """

    names: Sequence[str]
    scores: Sequence[float]
    score: Callable[[Sequence[float]], float]
    seed: int


@dataclass(frozen=True, slots=True)
class CustomSearch:
    """A function of `Mixing` and options that returns coefficients.

    Attributes:
        place: the function as `module:name`.
        function: the function.
        options: its options, by name.
    """

    place: str
    function: Callable[..., Sequence[float]]
    options: Mapping[str, Any]

    @property
    def recipe(self) -> dict[str, Any]:
        """The search in the form of manifests."""
        return {"search": self.place, "method": "linear", "objectives": ["val"], **self.options}

    study = recipe  # all settings: no search continues another

    def find(self, context: SearchContext) -> Found:
        """Run the function; every candidate that it scores is a trial, and so is its result.

        Raises:
            InputError: coefficients are not M finite numbers with a sum other than 0.
        """
        trials: list[dict[str, Any]] = []

        def score(coefficients: Sequence[float]) -> float:
            values = context.values(self._checked(coefficients, context), ("val",))
            trials.append(trial_json(len(trials), values, "sampler"))
            return values[0]

        mixing = Mixing(context.names, context.scores, score, context.seed)
        best = self._checked(self.function(mixing, **self.options), context)
        score(best)
        return Found("linear", "model", {"model": best}, trials, {"front": []})

    def _checked(self, coefficients: Sequence[float], context: SearchContext) -> list[float]:
        numbers = [float(value) for value in coefficients]
        if problem := problem_of(numbers, len(context.names)):
            raise InputError(f"search {self.place!r}: {problem}")
        return numbers


@dataclass(frozen=True, slots=True)
class SearchKind:
    """A search that can be built with options.

    Attributes:
        build: options by name -> the search.
        options: what `build` takes.
        summary: the first line of its documentation.
    """

    build: Callable[..., Search]
    options: Mapping[str, Option] = field(hash=False)
    summary: str


def search_kind_of(place: str, found: Callable[..., Any]) -> SearchKind:
    """Return a class of searches, or a function that is one, as a kind of search.

    Raises:
        InputError: the signature, or the class, is not that of a search.
    """
    options = options_of(f"search {place!r}", found)
    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    if isinstance(found, type):
        if missing := [name for name in ("find", "recipe", "study") if not hasattr(found, name)]:
            raise InputError(
                f"search {place!r}: a class must be a stockpot.soups.tuning.search.Search, "
                f"lacks {missing}"
            )
        return SearchKind(found, options, summary)
    if taken := sorted(options.keys() & _RECIPE_FIELDS):
        raise InputError(f"search {place!r}: options must have other names than {taken}")
    parameters = inspect.signature(found).parameters
    if len(parameters) != len(options) + 1 or next(iter(parameters)) in options:
        raise InputError(
            f"search {place!r}: must be a function of one argument, a "
            "stockpot.soups.tuning.custom_search.Mixing, and of options that are keyword-only, "
            f"got {found.__name__}{inspect.signature(found)}"
        )
    return SearchKind(lambda **given: CustomSearch(place, found, given), options, summary)
