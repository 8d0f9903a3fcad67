"""Each model against the best ingredient, as the evaluation tested it."""

from __future__ import annotations

from dataclasses import dataclass

from stockpot.reporting.results import Manifest
from stockpot.reporting.words.estimates import Estimate
from stockpot.reporting.words.verdict import Outcome

SHIFT, TEST = "shift", "test"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model minus the best ingredient, at one place.

    Attributes:
        difference: of the means, with its interval.
        outcome: better, no difference, or worse.
        p: after Holm's correction over its family.
    """

    difference: Estimate
    outcome: Outcome
    p: float


def comparison(evaluation: Manifest, model: str, place: str) -> Comparison | None:
    """Read how a model compares with the best ingredient; None where it was not compared.

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
