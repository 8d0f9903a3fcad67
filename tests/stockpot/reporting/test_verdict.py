from __future__ import annotations

from typing import Any

import pytest

from stockpot.reporting import Outcome, Results, headline, verdicts
from stockpot.reporting.estimates import Estimate
from stockpot.reporting.verdict import caveat, ensemble_sentence, judge


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.001, 0.05, Outcome.BETTER),
        (0.0, 0.05, Outcome.NO_DIFFERENCE),
        (-0.001, 0.05, Outcome.NO_DIFFERENCE),
        (-0.05, 0.0, Outcome.NO_DIFFERENCE),
        (0.0, 0.0, Outcome.NO_DIFFERENCE),
        (-0.05, -0.001, Outcome.WORSE),
    ],
)
def test_only_an_interval_wholly_beside_zero_is_a_difference(
    low: float, high: float, outcome: Outcome
) -> None:
    assert judge(Estimate((low + high) / 2, low, high)) is outcome


def test_a_difference_without_an_interval_shows_nothing() -> None:
    assert judge(Estimate(0.3)) is Outcome.NO_DIFFERENCE


def test_losses_come_first_then_shift_then_test(evaluation: dict[str, Any]) -> None:
    order = [(v.model, v.place, v.outcome.value) for v in verdicts(evaluation)]

    assert order == [
        ("uniform", "under shift", "worse"),
        ("uniform", "on test", "worse"),
        ("greedy", "under shift", "better"),
        ("tuned", "under shift", "no difference"),
        ("both", "under shift", "better"),
        ("greedy", "on test", "no difference"),
        ("tuned", "on test", "no difference"),
        ("both", "on test", "no difference"),
    ]


def test_sentences_are_plain_and_carry_the_interval(evaluation: dict[str, Any]) -> None:
    sentences = [verdict.sentence for verdict in verdicts(evaluation)]

    assert sentences[0] == (
        "uniform soup is worse than the best ingredient under shift: "
        "-3.0 points (95 % interval -4.0 to -2.0)"
    )
    assert sentences[2] == (
        "greedy soup is better than the best ingredient under shift: "
        "+4.1 points (95 % interval +3.1 to +5.1)"
    )
    assert sentences[5] == (
        "no difference seen between greedy soup and the best ingredient on test: "
        "+0.1 points (95 % interval -0.9 to +1.1)"
    )


def test_the_headline_counts_and_names_the_losers(evaluation: dict[str, Any]) -> None:
    assert headline(evaluation) == (
        "Against the best ingredient: under shift, 1 of 4 soups is worse (uniform), 2 are better, "
        "no difference is seen for 1; on test, 1 of 4 soups is worse (uniform), no difference is "
        "seen for 3."
    )


def test_the_headline_starts_where_soups_lose(evaluation: dict[str, Any]) -> None:
    uniform = next(m for m in evaluation["models"] if m["name"] == "uniform")["metrics"]
    uniform["difference/shift/mean/accuracy_high"] = 0.01

    assert headline(evaluation).startswith("Against the best ingredient: on test, 1 of 4")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.03, "all 4 soups are better"),
        (-0.03, -0.01, "all 4 soups are worse"),
        (-0.01, 0.03, "no difference is seen for any of the 4 soups"),
    ],
)
def test_the_headline_says_it_once_where_all_soups_agree(
    low: float, high: float, words: str, evaluation: dict[str, Any]
) -> None:
    name = "difference/test/accuracy"
    for model in evaluation["models"][3:]:
        ends = {f"{name}_low": low, f"{name}_high": high}
        model["metrics"] |= {name: (low + high) / 2, **ends}

    assert f"on test, {words}" in headline(evaluation)


def test_one_soup_without_shifts_is_judged_on_test_alone(plain_results: Results) -> None:
    assert [verdict.place for verdict in verdicts(plain_results.evaluation)] == ["on test"]
    assert headline(plain_results.evaluation) == (
        "Against the best ingredient: on test, the one soup is worse."
    )


def test_without_soups_the_headline_says_so(plain_results: Results) -> None:
    plain_results.evaluation["models"].pop()

    assert headline(plain_results.evaluation) == ("No soup was compared with the best ingredient.")
    assert caveat(plain_results.evaluation) is None


def test_the_ensemble_is_named_with_its_cost(evaluation: dict[str, Any]) -> None:
    assert ensemble_sentence(evaluation) == (
        "For comparison, the logit ensemble has 2 times the inference cost of one model; against "
        "the best ingredient: under shift +5.0 points (95 % interval +4.0 to +6.0), on test +0.5 "
        "points (95 % interval -0.5 to +1.5)."
    )


def test_no_ensemble_no_sentence(plain_results: Results) -> None:
    assert ensemble_sentence(plain_results.evaluation) is None


def test_the_caveat_counts_the_comparisons(evaluation: dict[str, Any]) -> None:
    assert "the 8 comparisons are not corrected" in str(caveat(evaluation))
