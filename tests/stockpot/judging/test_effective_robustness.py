from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from stockpot.judging.effective_robustness import effective_robustness
from stockpot.statistics.intervals import Intervals
from stockpot.statistics.values import Floats

INTERVALS = Intervals(200, 0.9, 0)
N = 1000


def _values(score: float, seed: int = 0) -> Floats:
    """Give N examples of which a share is right, in an order of its own."""
    values = np.zeros(N)
    values[: round(N * score)] = 1
    return np.asarray(np.random.default_rng(seed).permutation(values))


def _found(
    scores: Mapping[str, tuple[float, float]], kinds: Mapping[str, str]
) -> dict[str, object]:
    test = {name: _values(pair[0], 1) for name, pair in scores.items()}
    shift = {name: _values(pair[1], 2) for name, pair in scores.items()}
    return effective_robustness(test, shift, kinds, INTERVALS)


def _on_line(test: float) -> tuple[float, float]:
    return test, float(ndtr(0.8 * ndtri(test) - 0.3))


INGREDIENTS = {f"i{n}": _on_line(test) for n, test in enumerate((0.8, 0.85, 0.9, 0.95))}
KINDS = dict.fromkeys(INGREDIENTS, "ingredient")


def test_the_line_of_ingredients_is_found_and_a_soup_measured_from_it() -> None:
    _, shift = _on_line(0.92)

    found = _found(INGREDIENTS | {"soup": (0.92, shift + 0.05)}, KINDS | {"soup": "soup"})

    assert (found["scale"], found["num_fitted"]) == ("probit", 4)
    assert found["slope"] == pytest.approx(0.8, abs=0.01)
    assert found["intercept"] == pytest.approx(-0.3, abs=0.01)
    [row] = found["rows"]
    assert (row["model"], row["kind"], row["is_extrapolated"]) == ("soup", "soup", False)
    assert row["gain"] == pytest.approx(0.05, abs=0.002)
    assert 0 < row["low"] < row["gain"] < row["high"]


def test_shifts_may_hold_other_and_fewer_examples_than_test() -> None:
    soup = (0.92, _on_line(0.92)[1] + 0.05)
    scores, kinds = INGREDIENTS | {"soup": soup}, KINDS | {"soup": "soup"}
    test = {name: _values(pair[0], 1) for name, pair in scores.items()}
    shift = {name: np.repeat(_values(pair[1], 2), 2)[:1900] for name, pair in scores.items()}

    found = effective_robustness(test, shift, kinds, INTERVALS)

    [row] = found["rows"]
    assert row["gain"] == pytest.approx(0.05, abs=0.01)
    assert row["low"] < row["gain"] < row["high"]


def test_a_model_on_the_line_gains_nothing_and_beyond_the_ingredients_it_is_said() -> None:
    found = _found(INGREDIENTS | {"e": _on_line(0.99)}, KINDS | {"e": "ensemble"})

    [row] = found["rows"]
    assert row["gain"] == pytest.approx(0, abs=0.002)
    assert row["low"] < 0 < row["high"]
    assert row["is_extrapolated"] is True


def test_all_models_see_the_same_resamples_so_that_shared_noise_cancels() -> None:
    test = {name: _values(pair[0], 1) for name, pair in INGREDIENTS.items()}
    shift = {name: _values(pair[1], 2) for name, pair in INGREDIENTS.items()}
    kinds = KINDS | {"twin": "soup", "stranger": "soup"}
    test |= {"twin": test["i1"], "stranger": _values(INGREDIENTS["i1"][0], 3)}
    shift |= {"twin": shift["i1"], "stranger": _values(INGREDIENTS["i1"][1], 4)}

    twin, stranger = effective_robustness(test, shift, kinds, INTERVALS)["rows"]

    assert twin["gain"] == pytest.approx(stranger["gain"])
    assert twin["high"] - twin["low"] < 0.7 * (stranger["high"] - stranger["low"])


def test_scores_of_zero_and_one_are_half_an_example_away_from_them() -> None:
    scores = INGREDIENTS | {"soup": (1.0, 1.0), "base": (0.0, 0.0)}

    rows = _found(scores, KINDS | {"soup": "soup", "base": "base"})["rows"]

    assert [row["model"] for row in rows] == ["soup", "base"]
    assert all(np.isfinite([row["gain"], row["low"], row["high"]]).all() for row in rows)


def test_ingredients_that_are_all_right_have_no_line() -> None:
    perfect = dict.fromkeys(("a", "b", "c"), (1.0, 0.8))

    found = _found(perfect, dict.fromkeys(perfect, "ingredient"))

    assert "equal scores on test" in str(found["note"])
    assert found["rows"] == []
    assert "slope" not in found


def test_ingredients_of_equal_accuracy_have_no_line() -> None:
    equal = {"a": (0.9, 0.7), "b": (0.9, 0.8), "c": (0.9, 0.75), "soup": (0.9, 0.9)}
    kinds = dict.fromkeys(("a", "b", "c"), "ingredient") | {"soup": "soup"}

    assert "equal scores on test" in str(_found(equal, kinds)["note"])


def test_two_ingredients_are_too_few() -> None:
    found = _found({"a": (0.9, 0.7), "b": (0.8, 0.6)}, {"a": "ingredient", "b": "ingredient"})

    assert found == {
        "scale": "probit",
        "num_fitted": 2,
        "rows": [],
        "note": "a line needs 3 ingredients, got 2",
    }


def test_a_metric_that_is_no_fraction_has_no_probit() -> None:
    values = {name: -2 * _values(0.5) for name in "abc"}

    found = effective_robustness(values, values, dict.fromkeys("abc", "ingredient"), INTERVALS)

    assert "not a fraction" in str(found["note"])
