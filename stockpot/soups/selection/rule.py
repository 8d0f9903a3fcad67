"""A selection as a plugin: a function whose signature says what it needs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.errors import InputError
from stockpot.plugins import Option, options_of
from stockpot.soups.selection.candidates import WeightedCandidates


@dataclass(frozen=True, slots=True)
class Rule:
    """A selection with its options.

    Attributes:
        choose: the function; called with `Candidates`, or `Paths`, and options.
        is_on_path: whether it takes `paths` and returns a point on one of them. Otherwise it
            takes `candidates` and returns ingredients, for any merge method.
        is_weighted: whether `candidates` are `WeightedCandidates`, by the annotation.
        options: its keyword-only arguments, by name.
    """

    choose: Callable[..., Any]
    is_on_path: bool
    is_weighted: bool
    options: Mapping[str, Option]

    @property
    def summary(self) -> str:
        """The first line of its documentation."""
        return (inspect.getdoc(self.choose) or "").partition("\n")[0]


def rule_of(place: str, choose: Callable[..., Any]) -> Rule:
    """Return a function as a selection.

    Raises:
        InputError: its signature is not that of a selection.
    """
    options = options_of(f"selection {place!r}", choose)
    parameters = inspect.signature(choose).parameters
    argument, *others = [*parameters] or [""]
    if argument not in {"candidates", "paths"} or others != [*options]:
        raise InputError(
            f"selection {place!r}: must be a function of `candidates` or `paths` and of options "
            f"that are keyword-only, got {getattr(choose, '__name__', place)}"
            f"{inspect.signature(choose)}"
        )
    annotation = parameters[argument].annotation
    is_weighted = annotation in (WeightedCandidates, WeightedCandidates.__name__)
    return Rule(choose, argument == "paths", is_weighted, options)
