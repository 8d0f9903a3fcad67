from __future__ import annotations

import json

import numpy as np
import pytest

from stockpot.statistics.comparisons import Comparison, compare, compare_family
from stockpot.statistics.detectable import detectable_mean, detectable_shares
from stockpot.statistics.holm import holm
from stockpot.statistics.intervals import Intervals, tango
from stockpot.statistics.paired import mcnemar, sign_flips
from stockpot.statistics.values import Floats

INTERVALS = Intervals(500, 0.95, seed=0)


def _pair(won: int, lost: int, num_examples: int = 200) -> tuple[Floats, Floats]:
    """Return the values of a model and a reference that differ on so many examples."""
    same = num_examples - won - lost
    return np.repeat([1.0, 0, 1], [won, lost, same]), np.repeat([0.0, 1, 1], [won, lost, same])


def test_a_comparison_of_accuracies_by_hand() -> None:
    own, reference = _pair(12, 3)

    compared = compare(own, reference, INTERVALS)

    interval = tango(12, 3, 200, 0.95)
    assert compared == Comparison(
        difference=9 / 200,
        low=interval.low,
        high=interval.high,
        p=mcnemar(12, 3),
        test="mcnemar",
        n=200,
        won=12,
        lost=3,
        detectable=detectable_shares(15 / 200, 200, 0.05),
    )


def test_a_comparison_of_other_values_by_hand() -> None:
    generator = np.random.default_rng(0)
    own, reference = generator.random(80), generator.random(80)

    compared = compare(own, reference, INTERVALS)

    differences = own - reference
    assert compared.test == "sign flips"
    assert compared.difference == pytest.approx(differences.mean())
    assert compared.low < compared.difference < compared.high
    assert compared.p == pytest.approx(sign_flips(differences, seed=0))
    assert compared.won + compared.lost == compared.n == 80
    assert compared.detectable == pytest.approx(detectable_mean(differences.std(), 80, 0.05))


def test_what_a_family_can_detect_allows_for_its_size() -> None:
    own, reference = _pair(12, 3)

    alone, together = (compare(own, reference, INTERVALS, num_compared=m) for m in (1, 8))

    assert alone.detectable is not None
    assert together.detectable is not None
    assert together.detectable > alone.detectable
    assert together.p == alone.p


def _family() -> list[dict[str, object]]:
    reference = _pair(12, 3)[1]
    values = {
        "best": {"test": reference, "shift": reference},
        "good": {"test": _pair(12, 3)[0], "shift": _pair(12, 3)[0]},
        "bad": {"test": np.where(np.arange(200) < 60, 0.0, 1.0)},
        "same": {"test": reference},
    }
    return compare_family(values, "best", INTERVALS)


def test_a_family_is_corrected_over_all_models_and_places() -> None:
    compared = _family()

    assert [(one["model"], one["reference"], one["place"]) for one in compared] == [
        ("good", "best", "test"),
        ("good", "best", "shift"),
        ("bad", "best", "test"),
        ("same", "best", "test"),
    ]
    assert [one["p_holm"] for one in compared] == holm([one["p"] for one in compared])  # type: ignore[misc]


def test_an_outcome_is_that_of_the_corrected_p() -> None:
    good, _, bad, same = _family()

    # Alone, 12 to 3 has p 0.035; among four comparisons that is not enough.
    assert good["p"] == pytest.approx(0.035, abs=0.001)
    assert good["outcome"] == "no difference"
    assert bad["outcome"] == "worse"
    assert (same["outcome"], same["p"], same["difference"]) == ("no difference", 1, 0)


def test_a_clear_win_is_better() -> None:
    own, reference = _pair(30, 1)

    [compared] = compare_family({"a": {"test": own}, "b": {"test": reference}}, "b", INTERVALS)

    assert compared["outcome"] == "better"
    assert compared["p"] == compared["p_holm"]


def test_a_family_is_plain_json() -> None:
    assert json.loads(json.dumps(_family(), allow_nan=False)) == _family()


def test_a_family_of_nobody_is_empty() -> None:
    assert compare_family({"best": {"test": np.ones(3)}}, "best", INTERVALS) == []
