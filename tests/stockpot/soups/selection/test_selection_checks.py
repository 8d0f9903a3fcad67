"""The contract checks of selections: good ones pass, and each check finds a broken one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import (
    Candidates,
    PathPoint,
    Paths,
    PathSelection,
    Selection,
    Step,
)
from stockpot.soups.selection.checks import CHECKS, check_selection
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.soups.selection.rule import Rule, rule_of
from stockpot.soups.selection.wise_ft import wise_ft


def halves(candidates: Candidates) -> Selection:
    """Merge the better half; sound."""
    return Selection(candidates.order[: max(1, len(candidates.order) // 2)])


def returns_a_list(candidates: Candidates) -> list[int]:
    return [*candidates.order]


def none_at_all(candidates: Candidates) -> Selection:  # noqa: ARG001 (that is the fault)
    return Selection([])


def the_best_twice(candidates: Candidates) -> Selection:
    return Selection([candidates.order[0], candidates.order[0]])


def out_of_range(candidates: Candidates) -> Selection:
    return Selection([place + 1 for place in candidates.order])


def wrong_scores(candidates: Candidates) -> Selection:
    values = candidates.score([candidates.order[0]])
    return Selection([0], [Step(0, 7.0, accepted=True, best=7.0, values=values)])


def wrong_point(paths: Paths) -> PathSelection:
    chosen = wise_ft(paths)
    return replace(chosen, best=PathPoint(chosen.best.ingredient, 0.5, 7.0))


def at_random(candidates: Candidates) -> Selection:
    return Selection(torch.randperm(len(candidates.order))[:3].tolist())


def sorts_in_place(candidates: Candidates) -> Selection:
    candidates.order.sort()  # type: ignore[attr-defined]
    return Selection(candidates.order[:2])


def the_first_two(candidates: Candidates) -> Selection:
    return Selection(sorted(candidates.order)[:2])


def the_second_best(candidates: Candidates) -> Selection:
    return Selection([candidates.order[1]])


def one_coefficient(candidates: Candidates) -> Selection:
    return Selection(candidates.order[:2], coefficients=[1.0])


def unused_members(candidates: Candidates) -> Selection:
    return Selection(candidates.order[:2], coefficients=[1.0, 0.0])


BROKEN: dict[Callable[..., Any], tuple[str, str]] = {
    returns_a_list: ("result is a selection", r"must return a .*\.Selection, got list"),
    none_at_all: ("members are ingredients", r"one ingredient or more, each once, got \[\]"),
    the_best_twice: ("members are ingredients", "each once"),
    out_of_range: ("members are ingredients", "positions from 0 to 5, got"),
    one_coefficient: ("coefficients are of members", "one finite coefficient per member"),
    unused_members: ("coefficients are of members", "other than 0"),
    wrong_scores: ("recorded scores are right", "must be the mean of its values, got 7.0"),
    wrong_point: ("recorded scores are right", "must be 0.*, that of this point"),
    at_random: ("choice is deterministic", "draw no random numbers"),
    sorts_in_place: ("arguments are unchanged", "change a copy"),
    the_first_two: ("positions have no effect", "go through `order`"),
    the_second_best: ("one ingredient is enough", "IndexError"),
}


def record(function: Callable[..., Any]) -> Rule:
    return rule_of(function.__name__, function)


def test_a_sound_selection_fails_no_check() -> None:
    results = list(check_selection(record(halves)))

    assert [result.name for result in results if result.outcome == "failed"] == []
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("function", BROKEN, ids=lambda function: function.__name__)
def test_a_broken_selection_is_found_with_what_to_change(function: Callable[..., Any]) -> None:
    name, message = BROKEN[function]

    results = {result.name: result for result in check_selection(record(function))}

    assert results[name].outcome == "failed"
    assert re.search(message, results[name].message), results[name].message


def test_every_check_finds_a_broken_selection() -> None:
    assert {name for name, _ in BROKEN.values()} == {c.__name__.replace("_", " ") for c in CHECKS}


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "selection top_k: option 'k' is required"), ({"k": 1, "n": 2}, "unknown option 'n'")],
)
def test_options_must_be_those_of_the_selection(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(check_selection(SELECTIONS["top_k"], options))


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_built_in_selection_fails_no_check(name: str) -> None:
    rule = SELECTIONS[name]

    needed = {"k": 3, "members": ["ingredient-00"]}
    options = {name: value for name, value in needed.items() if name in rule.options}

    results = list(check_selection(rule, options))

    assert [result for result in results if result.outcome == "failed"] == []
