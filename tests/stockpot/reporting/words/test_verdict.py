from __future__ import annotations

from typing import Any

import pytest

from stockpot.reporting.results import Results
from stockpot.reporting.words.comparisons import Outcome
from stockpot.reporting.words.verdict import (
    caveat,
    ensemble_sentence,
    greedy_sentence,
    headline,
    verdicts,
)


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


def test_sentences_are_plain_and_carry_the_evidence(evaluation: dict[str, Any]) -> None:
    sentences = [verdict.sentence for verdict in verdicts(evaluation)]

    assert sentences[0] == (
        "uniform soup is worse than the best ingredient under shift: "
        "-3.0 points (95 % interval -4.0 to -2.0), better on 20 and worse on 62 of 1397 "
        "examples, p < 0.001"
    )
    assert sentences[2] == (
        "greedy soup is better than the best ingredient under shift: "
        "+4.1 points (95 % interval +3.1 to +5.1), better on 77 and worse on 20 of 1397 "
        "examples, p < 0.001"
    )
    assert sentences[5] == (
        "no significant difference between greedy soup and the best ingredient on test: "
        "+0.1 points (95 % interval -0.9 to +1.1), better on 21 and worse on 20 of 1397 examples, "
        "p = 0.42; one of 1.3 points would be detected with a power of 0.8"
    )


def test_the_corrected_test_decides_and_not_the_interval(evaluation: dict[str, Any]) -> None:
    tested = _tested(evaluation, "greedy", "shift")
    tested |= {"p": 0.03, "p_holm": 0.24, "outcome": "no difference"}

    [verdict] = [v for v in verdicts(evaluation) if (v.model, v.place) == ("greedy", "under shift")]

    assert tested["low"] > 0
    assert verdict.outcome is Outcome.NO_DIFFERENCE
    assert "p = 0.24" in verdict.sentence


def test_what_cannot_be_known_to_be_detectable_is_left_out(evaluation: dict[str, Any]) -> None:
    _tested(evaluation, "greedy", "test")["detectable"] = None

    sentences = [v.sentence for v in verdicts(evaluation) if v.model == "greedy"]

    assert sentences[1].endswith("examples, p = 0.42")


def _tested(evaluation: dict[str, Any], model: str, place: str) -> dict[str, Any]:
    [tested] = [
        tested
        for tested in evaluation["comparisons"]
        if (tested["model"], tested["place"]) == (model, place)
    ]
    assert isinstance(tested, dict)
    return tested


def test_the_headline_counts_and_names_the_losers(evaluation: dict[str, Any]) -> None:
    assert headline(evaluation) == (
        "Against the best ingredient: under shift, 1 of 4 soups is worse (uniform), 2 are better, "
        "no significant difference for 1; on test, 1 of 4 soups is worse (uniform), no significant "
        "difference for 3."
    )


def test_the_headline_starts_where_soups_lose(evaluation: dict[str, Any]) -> None:
    _tested(evaluation, "uniform", "shift")["outcome"] = "no difference"

    assert headline(evaluation).startswith("Against the best ingredient: on test, 1 of 4")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("better", "all 4 soups are better"),
        ("worse", "all 4 soups are worse"),
        ("no difference", "no significant difference for any of the 4 soups"),
    ],
)
def test_the_headline_summarises_equal_outcomes_of_all_soups(
    outcome: str, words: str, evaluation: dict[str, Any]
) -> None:
    for tested in evaluation["comparisons"]:
        tested["outcome"] = outcome

    assert f"on test, {words}" in headline(evaluation)


def test_one_soup_without_shifts_is_judged_on_test_alone(plain_results: Results) -> None:
    assert [verdict.place for verdict in verdicts(plain_results.evaluation)] == ["on test"]
    assert headline(plain_results.evaluation) == (
        "Against the best ingredient: on test, the one soup is worse."
    )


def test_without_soups_the_headline_says_so(plain_results: Results) -> None:
    plain_results.evaluation["models"].pop()
    plain_results.evaluation["comparisons"].pop()

    assert headline(plain_results.evaluation) == ("No soup was compared with the best ingredient.")
    assert caveat(plain_results.evaluation) is None


def test_the_ensemble_is_named_with_its_cost(evaluation: dict[str, Any]) -> None:
    assert ensemble_sentence(evaluation) == (
        "For comparison, the logit ensemble has 2 times the inference cost of one model; against "
        "the best ingredient: logit ensemble under shift +5.0 points (better, p < 0.001), on test "
        "+0.5 points (not significant, p = 0.42)."
    )


def test_several_ensembles_share_a_sentence(judged: Results) -> None:
    sentence = str(ensemble_sentence(judged.evaluation))

    assert sentence.startswith(
        "For comparison, ensembles have 16 times the inference cost of one model; against the best "
        "ingredient: logit ensemble under shift +"
    )
    assert sentence.count("under shift") == sentence.count("on test") == 4


def test_no_ensemble_no_sentence(plain_results: Results) -> None:
    assert ensemble_sentence(plain_results.evaluation) is None


def test_ensembles_are_no_soups(evaluation: dict[str, Any]) -> None:
    assert "logit ensemble" not in [verdict.model for verdict in verdicts(evaluation)]


def test_the_caveat_counts_the_comparisons(evaluation: dict[str, Any]) -> None:
    assert str(caveat(evaluation)).startswith(
        "p-values are corrected for the 8 comparisons of soups"
    )


def _accepts(evaluation: dict[str, Any], *within_noise: bool) -> None:
    [soup] = evaluation["greedy"]
    [rejected] = soup["steps"]
    soup["steps"] = [
        rejected,
        *({**rejected, "accepted": True, "within_noise": within} for within in within_noise),
    ]


@pytest.mark.parametrize(
    ("within_noise", "words"),
    [
        ((True, True, True, False), "3 of 4 accepted steps of greedy are within the noise of val"),
        ((True, False), "1 of 2 accepted steps of greedy is within the noise of val"),
        ((False,), "0 of 1 accepted step of greedy are within the noise of val"),
    ],
)
def test_greedys_own_decisions_are_judged(
    within_noise: tuple[bool, ...], words: str, evaluation: dict[str, Any]
) -> None:
    _accepts(evaluation, *within_noise)

    assert greedy_sentence(evaluation) == (
        f"{words} (400 examples; p of at least 0.05 without correction)."
    )


def test_a_greedy_soup_of_one_ingredient_is_called_that(evaluation: dict[str, Any]) -> None:
    assert greedy_sentence(evaluation) == "greedy consists of the best ingredient alone."


def test_without_a_greedy_soup_there_is_no_sentence_on_it(plain_results: Results) -> None:
    assert greedy_sentence(plain_results.evaluation) is None
