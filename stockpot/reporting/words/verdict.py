"""What the numbers say, in plain words; what went against the soups comes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stockpot.metric_units import Unit
from stockpot.reporting.results import Manifest, models_of
from stockpot.reporting.words.estimates import confidence_words, p_words
from stockpot.reporting.words.units import unit_of

UNDER_SHIFT = "under shift"
ON_TEST = "on test"

_PLACES = {"shift": UNDER_SHIFT, "test": ON_TEST}
"""What a sentence calls the place of a comparison; in the order of sentences."""


class Outcome(StrEnum):
    """How a soup compares with the best ingredient."""

    WORSE = "worse"
    NO_DIFFERENCE = "no difference"
    BETTER = "better"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One soup against the best ingredient, in one place."""

    model: str
    place: str  # UNDER_SHIFT or ON_TEST
    outcome: Outcome
    sentence: str


def verdicts(evaluation: Manifest) -> list[Verdict]:
    """Say how each soup and tuned soup compares with the best ingredient.

    Returns:
        One verdict a soup and place; the losses first, then those under shift, then those on test,
        each in the order of the manifest.
    """
    unit = unit_of(evaluation)
    found = [
        _verdict(tested, evaluation["confidence"], unit)
        for tested in _tested(evaluation, "soup", "tuned")
    ]
    return sorted(found, key=lambda verdict: verdict.outcome is not Outcome.WORSE)


def headline(evaluation: Manifest) -> str:
    """Count the outcomes in one sentence; a place where soups lose comes first."""
    found = verdicts(evaluation)
    if not found:
        return "No soup was compared with the best ingredient."
    groups = [[v for v in found if v.place == place] for place in _PLACES.values()]
    groups = [group for group in groups if group]
    groups.sort(key=lambda group: all(v.outcome is not Outcome.WORSE for v in group))
    counts = "; ".join(f"{group[0].place}, {_count(group)}" for group in groups)
    return f"Against the best ingredient: {counts}."


def ensemble_sentence(evaluation: Manifest) -> str | None:
    """Say what ensembles gain and cost; None where none was evaluated."""
    ensembles = models_of(evaluation, "ensemble")
    if not ensembles:
        return None
    gains = [gain for model in ensembles if (gain := _gain(evaluation, model["name"]))]
    cost = f"{ensembles[0]['cost']['num_models']} times the inference cost of one model"
    compared = f"; against the best ingredient: {'; '.join(gains)}" if gains else ""
    whom = "ensembles have" if len(ensembles) > 1 else f"the {ensembles[0]['name']} has"
    return f"For comparison, {whom} {cost}{compared}."


def greedy_sentence(evaluation: Manifest) -> str | None:
    """Say how many of greedy's accepts the noise of val could have made; None without greedy."""
    sentences = [_greedy(soup, evaluation["confidence"]) for soup in evaluation["greedy"]]
    return " ".join(sentences) or None


def caveat(evaluation: Manifest) -> str | None:
    """Say how many comparisons stand side by side; None where there is only one."""
    num_compared = len(verdicts(evaluation))
    if num_compared < 2:
        return None
    return (
        f"p is corrected for the {num_compared} comparisons of soups being made together (Holm), "
        "and decides; each interval is for one comparison."
    )


def _tested(evaluation: Manifest, *kinds: str) -> list[Mapping[str, Any]]:
    """List the comparisons of models of these kinds, place by place."""
    names = {model["name"] for model in models_of(evaluation, *kinds)}
    return [
        tested
        for place in _PLACES
        for tested in evaluation["comparisons"]
        if tested["place"] == place and tested["model"] in names
    ]


def _verdict(tested: Mapping[str, Any], confidence: float, unit: Unit) -> Verdict:
    outcome, place, model = Outcome(tested["outcome"]), _PLACES[tested["place"]], tested["model"]
    soup = model if model.endswith("soup") else f"{model} soup"
    what, could_see = f"{soup} is {outcome} than the best ingredient {place}", ""
    if outcome is Outcome.NO_DIFFERENCE:
        what = f"no difference seen between {soup} and the best ingredient {place}"
        could_see = could_see_words(tested["detectable"], unit)
    bounds = unit.bounds(tested["low"], tested["high"])
    evidence = (
        f"{unit.difference_in_full(tested['difference'])} "
        f"({confidence_words(confidence)} {bounds}), "
        f"+{tested['won']} and -{tested['lost']} of {tested['n']} examples, "
        f"{p_words(tested['p_holm'])}"
    )
    return Verdict(model, place, outcome, f"{what}: {evidence}{could_see}")


def could_see_words(detectable: float | None, unit: Unit) -> str:
    """Say which difference the examples would have shown, as far as that is known."""
    if detectable is None:
        return ""
    return f"; one of {unit.score(detectable)} {unit.points} would be seen 4 times of 5"


def _gain(evaluation: Manifest, ensemble: str) -> str:
    """Say by how much an ensemble exceeds the best ingredient; nothing where it was not tested."""
    unit = unit_of(evaluation)
    places = [
        f"{_PLACES[tested['place']]} {unit.difference_in_full(tested['difference'])} "
        f"({_OUTCOME_WORDS[Outcome(tested['outcome'])]}, {p_words(tested['p_holm'])})"
        for tested in _tested(evaluation, "ensemble")
        if tested["model"] == ensemble
    ]
    return f"{ensemble} {', '.join(places)}" if places else ""


_OUTCOME_WORDS = {
    Outcome.WORSE: "worse",
    Outcome.NO_DIFFERENCE: "no difference seen",
    Outcome.BETTER: "better",
}


def _greedy(soup: Mapping[str, Any], confidence: float) -> str:
    accepts = [step for step in soup["steps"] if step["accepted"]]
    if not accepts:
        return f"{soup['soup']} kept the best ingredient alone."
    within = sum(step["within_noise"] for step in accepts)
    plural = "accept" if len(accepts) == 1 else "accepts"
    return (
        f"{within} of {len(accepts)} {plural} of {soup['soup']} {'is' if within == 1 else 'are'} "
        f"within the noise of val ({accepts[0]['n']} examples; p at least {1 - confidence:.2g}, "
        "each by itself)."
    )


def _count(group: list[Verdict]) -> str:
    """Say how many soups of one place are worse, better, or not told apart; in that order."""
    by_outcome = [
        (outcome, [verdict.model for verdict in group if verdict.outcome is outcome])
        for outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.NO_DIFFERENCE)
    ]
    present = [(outcome, names) for outcome, names in by_outcome if names]
    if len(present) == 1:
        return _count_of_all(present[0][0], len(group))
    soups = f" of {len(group)} soups"
    first, *others = present
    return ", ".join([_share(*first, soups), *(_share(*other, "") for other in others)])


def _count_of_all(outcome: Outcome, num_soups: int) -> str:
    if outcome is Outcome.NO_DIFFERENCE:
        whom = f" for any of the {num_soups} soups" if num_soups > 1 else " for the one soup"
        return f"no difference is seen{whom}"
    return f"all {num_soups} soups are {outcome}" if num_soups > 1 else f"the one soup is {outcome}"


def _share(outcome: Outcome, names: list[str], soups: str) -> str:
    if outcome is Outcome.NO_DIFFERENCE:
        return f"no difference is seen for {len(names)}{soups}"
    named = f" ({', '.join(names)})" if outcome is Outcome.WORSE else ""
    return f"{len(names)}{soups} {'is' if len(names) == 1 else 'are'} {outcome}{named}"
