"""Comparisons of models with the best ingredient, read from the evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from stockpot.reporting.results import Manifest
from stockpot.reporting.words.estimates import Estimate
from stockpot.reporting.words.verdict import Outcome

SHIFT, TEST = "shift", "test"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model minus the best ingredient, on test or under shift.

    Attributes:
        difference: of the means, with its interval.
        outcome: better, no difference, or worse.
        p: p-value after Holm's correction over its family.
    """

    difference: Estimate
    outcome: Outcome
    p: float


def comparison(evaluation: Manifest, model: str, place: str) -> Comparison | None:
    """Read the comparison of a model with the best ingredient; None if there is none.

    Args:
        evaluation: its manifest.
        model: the name of one of its models.
        place: SHIFT (the mean over the test shifts) or TEST.
    """
    for tested in evaluation["comparisons"]:
        if (tested["model"], tested["place"]) == (model, place):
            difference = Estimate(tested["difference"], tested["low"], tested["high"])
            return Comparison(difference, Outcome(tested["outcome"]), tested["p_holm"])
    return None
