from __future__ import annotations

from typing import Any

from stockpot.statistics.greedy_decisions import greedy_decisions


def _step(name: str, accepted: bool, p: float | None) -> dict[str, Any]:
    counts = {"won": 4, "lost": 1} if p is not None else {"won": None, "lost": None}
    difference = None if p is None else 3 / 50
    return {
        "ingredient": name,
        "score": 0.9,
        "accepted": accepted,
        "best": 0.9,
        "difference": difference,
        "p": p,
        "n": 50,
        **counts,
    }


def test_the_first_ingredient_was_no_decision() -> None:
    assert greedy_decisions([_step("a", True, None)], 0.95) == []
    assert greedy_decisions([], 0.95) == []


def test_a_decision_says_whether_noise_could_have_made_it() -> None:
    steps = [_step("a", True, None), _step("b", True, 0.375), _step("c", False, 0.01)]

    decisions = greedy_decisions(steps, 0.95)

    assert decisions[0] == {
        "ingredient": "b",
        "accepted": True,
        "difference": 3 / 50,
        "p": 0.375,
        "won": 4,
        "lost": 1,
        "n": 50,
        "within_noise": True,
    }
    assert [(one["ingredient"], one["within_noise"]) for one in decisions] == [
        ("b", True),
        ("c", False),
    ]


def test_a_p_at_the_level_is_within_the_noise() -> None:
    decisions = greedy_decisions([_step("a", True, None), _step("b", True, 0.05)], 0.95)

    assert decisions[0]["within_noise"]


def test_a_stopped_candidate_has_no_p() -> None:
    _, decision = greedy_decisions(
        [_step("a", True, None), _step("b", True, 0.3), _step("c", False, None)], 0.95
    )

    assert (decision["p"], decision["within_noise"], decision["accepted"]) == (None, None, False)
