"""Comparisons of models with the best ingredient, read from the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stockpot.reporting.results import Manifest
from stockpot.reporting.words.estimates import Estimate

SHIFT, TEST = "shift", "test"

PLACES = {SHIFT: "under shift", TEST: "on test"}
"""Wording of the place of a comparison, in the order of the sentences."""

TITLES = {SHIFT: "under shift (mean)", TEST: "on test"}
"""Titles of the plots of a place."""

METRIC_PLACES = {SHIFT: "shift/mean", TEST: "test"}
"""The places of a comparison in names of metrics."""


class Outcome(StrEnum):
    """How a model compares with its reference."""

    WORSE = "worse"
    NO_DIFFERENCE = "no difference"
    BETTER = "better"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model minus the best ingredient, on test or under shift.

    Attributes:
        difference: of the means, with its interval.
        outcome: better, no difference, or worse.
        p: p-value after Holm's correction over its family.
        detectable: smallest difference that the test can detect, if it is known.
    """

    difference: Estimate
    outcome: Outcome
    p: float
    detectable: float | None = None


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
            outcome = Outcome(tested["outcome"])
            return Comparison(difference, outcome, tested["p_holm"], tested["detectable"])
    return None


def star_note(evaluation: Manifest) -> str:
    """Return the legend of the star behind a difference."""
    return f"* p < {1 - evaluation['confidence']:.2g} after Holm's correction"
