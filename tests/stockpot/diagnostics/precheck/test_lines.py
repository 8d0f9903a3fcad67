from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stockpot.diagnostics.precheck.lines import check_scores, line_to, most_alike, running_lines
from stockpot.diagnostics.states import mean_state

State = dict[str, Tensor]
BASE = {"w": torch.tensor([0.0, 0.0])}


def _at(x: float, y: float = 0.0) -> State:
    return {"w": torch.tensor([x, y])}


def _hill(state: State) -> float:
    """Score 1 at (1, 0) and at (-1, 0), and less in between and beside."""
    x, y = state["w"].tolist()
    return 1 - min(abs(x - 1), abs(x + 1)) / 2 - abs(y)


def test_a_line_over_a_valley_has_its_depth_as_barrier() -> None:
    line = line_to(_at(-1), [_at(1)], _at(1), _hill, mean_state)

    assert line.scores.scores == (1.0, 0.5, 1.0)
    assert line.scores.accuracy_barrier == line.fall == 0.5


def test_a_bad_ingredient_is_measured_against_half_of_the_base() -> None:
    line = line_to(_at(1, 2), [_at(1)], _at(1), _hill, mean_state)

    assert line.scores.accuracy_barrier == 0
    assert line.harm == line.fall == 1.0


def test_a_weak_ingredient_that_is_near_the_base_does_no_harm() -> None:
    line = line_to(_at(0.1), [_at(1)], BASE, _hill, mean_state)

    assert line.fall == pytest.approx(0)


def test_ingredients_of_the_other_hill_are_found_and_the_mean_stays_on_its_own() -> None:
    states = {"a": _at(1), "b": _at(0.9), "c": _at(-1), "d": _at(1.1), "e": _at(-0.9)}

    lines = running_lines(states, _at(1), [*states], _hill, mean_state, limit=0.05)

    assert {name: line.fall <= 0.05 for name, line in lines.items()} == {
        "b": True,
        "c": False,
        "d": True,
        "e": False,
    }


def test_what_came_too_early_is_measured_again_from_the_mean_of_all_others() -> None:
    def score(state: State) -> float:
        return 1.0 if float(state["w"][0]) >= 0.25 else 0.0

    # Half-way from the first one to the second is 0.2; from the mean of the others it is 0.65.
    states = {"a": _at(0.4), "b": _at(0.0), "c": _at(2.0), "d": _at(1.5)}

    lines = running_lines(states, _at(1), [*states], score, mean_state, limit=0.05)

    assert lines["b"].fall == 0


def test_the_mean_starts_at_the_task_vector_that_is_most_like_the_others() -> None:
    towards = {"a": _at(1, 0.1), "b": _at(1, -0.1), "c": _at(1, 0.0), "d": _at(-1, 0.3)}

    assert most_alike(towards, BASE) == "c"
    assert most_alike({"a": _at(1)}, BASE) == "a"


@pytest.mark.parametrize(
    ("scores", "base", "passed"),
    [
        ([0.9, 0.91, 0.92, 0.1], 0.9, [True, True, True, False]),
        ([0.9, 0.91, 0.92, 0.7], 0.6, [True, True, True, True]),  # better than the base: weak
        ([0.9, 0.91, 0.92, 0.88], 0.95, [True, True, True, True]),  # within the limit
        ([0.2, 0.5, 0.9, 0.1], 0.6, [True, True, True, True]),  # widely spread
        ([0.3], 0.9, [True]),
    ],
)
def test_a_score_far_below_the_base_and_the_others_does_not_pass(
    scores: list[float], base: float, passed: list[bool]
) -> None:
    checks = check_scores({str(n): score for n, score in enumerate(scores)}, base, 0.05)

    assert [check.passed for check in checks] == passed
