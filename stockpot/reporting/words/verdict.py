"""The verdict in sentences: how soups compare with the best ingredient, losses first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpot.metric_units import Unit
from stockpot.reporting.results import Manifest, models_of, unit_of
from stockpot.reporting.words.comparisons import PLACES, Outcome
from stockpot.reporting.words.estimates import interval_name, p_text


@dataclass(frozen=True, slots=True)
class Verdict:
    """One model against its reference, in one place."""

    model: str
    place: str  # "under shift" or "on test"
    outcome: Outcome | None  # None: not tested
    sentence: str


def verdicts(evaluation: Manifest) -> list[Verdict]:
    """Return how each soup and tuned soup compares with the best ingredient.

    Returns:
        One verdict per soup and place: losses first, then by place (shift, test), then in the order
        of the manifest.
    """
    confidence, unit = evaluation["confidence"], unit_of(evaluation)
    compared = []
    for tested in _tested(evaluation, "soup", "tuned"):
        model, place = tested["model"], PLACES[tested["place"]]
        names = (model if model.endswith("soup") else f"{model} soup", "the best ingredient")
        sentence = comparison_sentence(tested, names, confidence, unit)
        compared.append(Verdict(model, place, Outcome(tested["outcome"]), sentence))
    return sorted(compared, key=lambda verdict: verdict.outcome is not Outcome.WORSE)


def headline(evaluation: Manifest) -> str:
    """Summarise the outcomes in one sentence; a place where soups lose comes first."""
    found = verdicts(evaluation)
    if not found:
        return "No soup was compared with the best ingredient."
    groups = [[v for v in found if v.place == place] for place in PLACES.values()]
    groups = [group for group in groups if group]
    groups.sort(key=lambda group: all(v.outcome is not Outcome.WORSE for v in group))
    counts = "; ".join(f"{group[0].place}, {_count(group)}" for group in groups)
    return f"Against the best ingredient: {counts}."


def ensemble_sentence(evaluation: Manifest) -> str | None:
    """Return the gains and the cost of ensembles; None if none was evaluated."""
    ensembles = models_of(evaluation, "ensemble")
    if not ensembles:
        return None
    gains = [gain for model in ensembles if (gain := _gain(evaluation, model["name"]))]
    cost = f"{ensembles[0]['cost']['num_models']} times the inference cost of one model"
    compared = f"; against the best ingredient: {'; '.join(gains)}" if gains else ""
    subject = "ensembles have" if len(ensembles) > 1 else f"the {ensembles[0]['name']} has"
    return f"For comparison, {subject} {cost}{compared}."


def greedy_sentence(evaluation: Manifest) -> str | None:
    """Return how many accepted steps of greedy are within the noise of val; None without greedy."""
    sentences = [_greedy(soup, evaluation["confidence"]) for soup in evaluation["greedy"]]
    return " ".join(sentences) or None


def caveat(evaluation: Manifest) -> str | None:
    """Return the note on multiple comparisons; None if there is only one."""
    return correction_note(len(verdicts(evaluation)), "soups")


def correction_note(num_compared: int, what: str) -> str | None:
    """Return the note on the correction of `num_compared` p-values; None for fewer than two."""
    if num_compared < 2:
        return None
    return (
        f"p-values are corrected for the {num_compared} comparisons of {what} (Holm) and decide "
        "the outcome; intervals are not corrected."
    )


def _tested(evaluation: Manifest, *kinds: str) -> list[Mapping[str, Any]]:
    """Return the comparisons of models of these kinds, ordered by place."""
    names = {model["name"] for model in models_of(evaluation, *kinds)}
    return [
        tested
        for place in PLACES
        for tested in evaluation["comparisons"]
        if tested["place"] == place and tested["model"] in names
    ]


def comparison_sentence(
    tested: Mapping[str, Any], names: tuple[str, str], confidence: float, unit: Unit
) -> str:
    """Return the outcome of a comparison with its evidence.

    Args:
        tested: the comparison, as the evaluation records it.
        names: of the model and of its reference.
        confidence: of the interval.
        unit: of the metric.
    """
    (name, reference), place = names, PLACES[tested["place"]]
    outcome, power = f"{name} is {tested['outcome']} than {reference} {place}", ""
    if tested["outcome"] == Outcome.NO_DIFFERENCE:
        outcome = f"no significant difference between {name} and {reference} {place}"
        if tested["detectable"] is not None:
            detectable = f"{unit.score(tested['detectable'])} {unit.points}"
            power = f"; one of {detectable} would be detected with a power of 0.8"
    bounds = unit.bounds(tested["low"], tested["high"])
    return (
        f"{outcome}: {unit.difference_in_full(tested['difference'])} "
        f"({interval_name(confidence)} {bounds}), "
        f"better on {tested['won']} and worse on {tested['lost']} of {tested['n']} examples, "
        f"{p_text(tested['p_holm'])}{power}"
    )


def _gain(evaluation: Manifest, ensemble: str) -> str:
    """Return the gain of an ensemble over the best ingredient; empty if it was not tested."""
    unit = unit_of(evaluation)
    places = [
        f"{PLACES[tested['place']]} {unit.difference_in_full(tested['difference'])} "
        f"({tested['outcome'].replace('no difference', 'not significant')}, "
        f"{p_text(tested['p_holm'])})"
        for tested in _tested(evaluation, "ensemble")
        if tested["model"] == ensemble
    ]
    return f"{ensemble} {', '.join(places)}" if places else ""


def _greedy(soup: Mapping[str, Any], confidence: float) -> str:
    accepts = [step for step in soup["steps"] if step["accepted"]]
    if not accepts:
        return f"{soup['soup']} consists of the best ingredient alone."
    within = sum(step["within_noise"] for step in accepts)
    steps = "step" if len(accepts) == 1 else "steps"
    return (
        f"{within} of {len(accepts)} accepted {steps} of {soup['soup']} "
        f"{'is' if within == 1 else 'are'} within the noise of val ({accepts[0]['n']} examples; "
        f"p of at least {1 - confidence:.2g} without correction)."
    )


def _count(group: list[Verdict]) -> str:
    """Count the soups that are worse, better or not different at one place, in that order."""
    present = [
        (outcome, names)
        for outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.NO_DIFFERENCE)
        if (names := [verdict.model for verdict in group if verdict.outcome is outcome])
    ]
    first, *others = present
    if not others:
        return _count_of_all(first[0], len(group))
    soups = f" of {len(group)} soups"
    return ", ".join([_share(*first, soups), *(_share(*other, "") for other in others)])


def _count_of_all(outcome: Outcome, num_soups: int) -> str:
    if outcome is Outcome.NO_DIFFERENCE:
        scope = f" for any of the {num_soups} soups" if num_soups > 1 else " for the one soup"
        return f"no significant difference{scope}"
    return f"all {num_soups} soups are {outcome}" if num_soups > 1 else f"the one soup is {outcome}"


def _share(outcome: Outcome, names: list[str], soups: str) -> str:
    if outcome is Outcome.NO_DIFFERENCE:
        return f"no significant difference for {len(names)}{soups}"
    named = f" ({', '.join(names)})" if outcome is Outcome.WORSE else ""
    return f"{len(names)}{soups} {'is' if len(names) == 1 else 'are'} {outcome}{named}"
