"""Selections as plugins: the built-in ones by name, and what makes a function one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.soups.selection.candidates import Candidates, Selection, WeightedCandidates
from stockpot.soups.selection.registry import SELECTIONS
from stockpot.soups.selection.rule import rule_of


def _unscored(_members: Sequence[int]) -> Tensor:
    raise AssertionError("no soup is scored")


CANDIDATES = Candidates([2, 0, 1], [0.5, 0.4, 0.9], _unscored)


def test_uniform_takes_all_in_their_order_without_scoring_soups() -> None:
    assert SELECTIONS["uniform"].choose(CANDIDATES) == Selection([0, 1, 2])


@pytest.mark.parametrize(("k", "members"), [(1, [2]), (2, [2, 0]), (9, [2, 0, 1])])
def test_top_k_takes_the_best_first_without_scoring_soups(k: int, members: list[int]) -> None:
    assert SELECTIONS["top_k"].choose(CANDIDATES, k=k) == Selection(members)


def test_greedy_takes_the_accepted_ones_with_their_steps() -> None:
    scores = {(2,): 0.9, (2, 0): 0.8, (2, 1): 0.95}
    candidates = Candidates([2, 0, 1], [0.5, 0.4, 0.9], lambda m: torch.tensor([scores[tuple(m)]]))

    chosen = SELECTIONS["greedy"].choose(candidates)

    assert chosen.members == [2, 1]
    assert [(step.ingredient, step.accepted) for step in chosen.steps] == [
        (2, True),
        (0, False),
        (1, True),
    ]


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_built_in_selection_has_a_summary_for_the_reference(name: str) -> None:
    rule = SELECTIONS[name]

    assert rule.summary.endswith(".")
    assert rule.is_on_path == (name == "wise_ft")


def test_selections_and_searches_are_known_without_torch() -> None:
    code = (
        "import sys, stockpot.soups.selection.registry as s, stockpot.soups.tuning.registry as t;"
        "[s.SELECTIONS[n] for n in s.SELECTIONS]; [t.SEARCHES[n] for n in t.SEARCHES];"
        "sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _of_weighted(candidates: WeightedCandidates) -> Selection: ...  # type: ignore[empty-body]


def test_the_annotation_says_whether_ingredients_are_weighted() -> None:
    assert rule_of("m:f", _of_weighted).is_weighted
    assert [name for name in SELECTIONS if SELECTIONS[name].is_weighted] == [
        "greedy_with_replacement",
        "greedy_restarts",
        "soce",
    ]


def _positional(candidates: Candidates, k: int) -> Selection: ...  # type: ignore[empty-body]
def _misnamed(models: Candidates) -> Selection: ...  # type: ignore[empty-body]
def _empty() -> Selection: ...  # type: ignore[empty-body]


@pytest.mark.parametrize("choose", [_positional, _misnamed, _empty])
def test_a_function_of_other_arguments_is_no_selection(choose: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="must be a function of `candidates` or `paths` and of"):
        rule_of("m:f", choose)


def test_options_need_types_that_exist_at_run_time() -> None:
    def untyped(candidates: Candidates, *, k) -> Selection: ...  # type: ignore[no-untyped-def, empty-body]

    def unknown(candidates: Candidates, *, k: Missing) -> Selection: ...  # type: ignore[name-defined, empty-body]  # noqa: F821

    with pytest.raises(InputError, match="selection 'm:f': option 'k' must have a type annotation"):
        rule_of("m:f", untyped)
    with pytest.raises(InputError, match=r"cannot be resolved .*; import it at run time"):
        rule_of("m:f", unknown)
