"""The contract checks of searches: good ones pass, and each check finds a broken one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from stockpot.errors import InputError
from stockpot.soups.tuning.checks import CHECKS, check_search
from stockpot.soups.tuning.custom_search import Mixing, SearchKind, search_kind_of
from stockpot.soups.tuning.registry import SEARCHES
from stockpot.soups.tuning.search import Found, SearchContext


def best_pair(mixing: Mixing, *, share: float = 0.5) -> Sequence[float]:
    """Mix the best model with each other one; sound."""
    size = len(mixing.names)
    rows = [[share if place == other else 1 - share for place in range(size)] for other in (0, 1)]
    return max(rows, key=mixing.score)


def too_few(mixing: Mixing) -> Sequence[float]:
    return [1.0] * (len(mixing.names) - 1)


def at_random(mixing: Mixing) -> Sequence[float]:
    return torch.rand(len(mixing.names)).tolist()


@dataclass(frozen=True, kw_only=True)
class WithoutTrials:
    """Equal coefficients without a score."""

    recipe = {"search": "own", "method": "linear"}  # noqa: RUF012
    study = recipe

    def find(self, context: SearchContext) -> Found:
        return Found("linear", "model", {"model": [1.0] * len(context.names)}, [])


class WithAnObject(WithoutTrials):
    study = {"model": object()}  # noqa: RUF012


class WithoutMethod(WithoutTrials):
    recipe = {"search": "own"}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class ZeroSum(WithoutTrials):
    def find(self, context: SearchContext) -> Found:
        row = [1.0, -1.0] + [0.0] * (len(context.names) - 2)
        return Found("linear", "model", {"model": row}, [{"values": [1.0]}])


@dataclass(frozen=True, kw_only=True)
class TrialsWithNaN(WithoutTrials):
    def find(self, context: SearchContext) -> Found:
        row = [1.0] * len(context.names)
        return Found("linear", "model", {"model": row}, [{"values": [float("nan")]}])


BROKEN: dict[Callable[..., Any], tuple[str, str]] = {
    WithAnObject: ("settings are plain values", "study: must be JSON, got .*object"),
    WithoutMethod: ("settings are plain values", r"recipe: must have \['method'\]"),
    too_few: ("coefficients are valid", r"must be 4 finite numbers .* got \[1.0, 1.0, 1.0\]"),
    ZeroSum: ("coefficients are valid", "whose sum is not 0, got"),
    WithoutTrials: ("trials are recorded", "must record its candidates as trials, got none"),
    TrialsWithNaN: ("trials are recorded", "must be JSON without NaN"),
    at_random: ("result is deterministic", "seeded by the argument's seed"),
}


def record(found: Callable[..., Any]) -> SearchKind:
    return search_kind_of(found.__name__, found)


def test_a_sound_search_passes_all_checks() -> None:
    results = list(check_search(record(best_pair), {"share": 0.75}))

    assert {result.outcome for result in results} == {"ok"}, results
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("found", BROKEN, ids=lambda found: found.__name__)
def test_a_broken_search_is_found_with_what_to_change(found: Callable[..., Any]) -> None:
    name, message = BROKEN[found]

    results = {result.name: result for result in check_search(record(found))}

    assert results[name].outcome == "failed", results
    assert re.search(message, results[name].message), results[name].message


def test_every_check_finds_a_broken_search() -> None:
    assert {name for name, _ in BROKEN.values()} == {c.__name__.replace("_", " ") for c in CHECKS}


def test_options_must_be_those_of_the_search() -> None:
    with pytest.raises(InputError, match="search: unknown option 'trails'"):
        list(check_search(SEARCHES["optuna"], {"trails": 4}))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_built_in_search_fails_no_check(name: str) -> None:
    kind = SEARCHES[name]

    results = list(check_search(kind, {"trials": 8} if "trials" in kind.options else {}))

    assert [result for result in results if result.outcome == "failed"] == []


def test_a_search_that_needs_gradients_is_skipped_and_says_why() -> None:
    results = {result.name: result for result in check_search(SEARCHES["gradient"])}

    assert results["coefficients are valid"].outcome == "skipped"
    assert "of the context, which is not made up" in results["coefficients are valid"].message
