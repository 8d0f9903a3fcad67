"""What the numbers say, in plain words; what went against the soups comes first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stockpot.reporting.estimates import Estimate, confidence_words, points, read_estimate
from stockpot.reporting.results import Manifest, models_of

UNDER_SHIFT = "under shift"
ON_TEST = "on test"


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


def judge(difference: Estimate) -> Outcome:
    """Say which side of 0 the whole interval lies on; an end at 0 itself shows no difference."""
    if not difference.excludes_zero:
        return Outcome.NO_DIFFERENCE
    return Outcome.BETTER if difference.value > 0 else Outcome.WORSE


def verdicts(evaluation: Manifest) -> list[Verdict]:
    """Judge each soup and tuned soup against the best ingredient.

    Returns:
        One verdict a soup and place; the losses first, then those under shift, then those on test,
        each in the order of the manifest.
    """
    found = [
        _verdict(model["name"], place, difference, evaluation["confidence"])
        for place, name in _places(evaluation)
        for model in models_of(evaluation, "soup", "tuned")
        if (difference := read_estimate(model["metrics"], name)) is not None
    ]
    return sorted(found, key=lambda verdict: verdict.outcome is not Outcome.WORSE)


def headline(evaluation: Manifest) -> str:
    """Count the outcomes in one sentence; a place where soups lose comes first."""
    found = verdicts(evaluation)
    if not found:
        return "No soup was compared with the best ingredient."
    groups = [[v for v in found if v.place == place] for place, _ in _places(evaluation)]
    groups = [group for group in groups if group]
    groups.sort(key=lambda group: all(v.outcome is not Outcome.WORSE for v in group))
    counts = "; ".join(f"{group[0].place}, {_count(group)}" for group in groups)
    return f"Against the best ingredient: {counts}."


def ensemble_sentence(evaluation: Manifest) -> str | None:
    """Say what the logit ensemble gains and costs; None where none was evaluated."""
    ensembles = models_of(evaluation, "ensemble")
    if not ensembles:
        return None
    ensemble, interval = ensembles[0], confidence_words(evaluation["confidence"])
    gains = [
        f"{place} {_amount(difference, interval)}"
        for place, name in _places(evaluation)
        if (difference := read_estimate(ensemble["metrics"], name)) is not None
    ]
    cost = f"{ensemble['cost']['num_models']} times the inference cost of one model"
    compared = f"; against the best ingredient: {', '.join(gains)}" if gains else ""
    return f"For comparison, the {ensemble['name']} has {cost}{compared}."


def caveat(evaluation: Manifest) -> str | None:
    """Say how many comparisons stand side by side; None where there is only one."""
    num_compared = len(verdicts(evaluation))
    if num_compared < 2:
        return None
    return (
        f"Each interval is for one comparison; the {num_compared} comparisons are not corrected "
        "for being made together."
    )


def _places(evaluation: Manifest) -> tuple[tuple[str, str], ...]:
    metric = evaluation["metric"]
    return (
        (UNDER_SHIFT, f"difference/shift/mean/{metric}"),
        (ON_TEST, f"difference/test/{metric}"),
    )


def _verdict(model: str, place: str, difference: Estimate, confidence: float) -> Verdict:
    outcome = judge(difference)
    amount = _amount(difference, confidence_words(confidence))
    soup = model if model.endswith("soup") else f"{model} soup"
    match outcome:
        case Outcome.NO_DIFFERENCE:
            sentence = f"no difference seen between {soup} and the best ingredient {place}"
        case _:
            sentence = f"{soup} is {outcome} than the best ingredient {place}"
    return Verdict(model, place, outcome, f"{sentence}: {amount}")


def _amount(difference: Estimate, interval: str) -> str:
    if difference.low is None or difference.high is None:
        return f"{points(difference.value)} points"
    bounds = f"{points(difference.low)} to {points(difference.high)}"
    return f"{points(difference.value)} points ({interval} {bounds})"


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
