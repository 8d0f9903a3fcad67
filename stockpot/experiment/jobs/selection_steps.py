"""The steps of a selection in the form of manifests, each with a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stockpot.soups.selection.candidates import Step
from stockpot.statistics.values import Floats


def tested_steps(steps: Sequence[Step], names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Return the steps for manifests, each tested against the soup before it.

    The difference, its p and the numbers of examples won and lost are None for the first step,
    since there is no soup before it, and for a step whose evaluation was stopped, which has no
    score either: what is known of it is in `stopped`.

    Args:
        steps: the steps, in order.
        names: names of the ingredients, by position.
        seed: of the test.
    """
    content: list[dict[str, Any]] = []
    soup: Step | None = None
    for step in steps:
        decision = {
            "ingredient": names[step.ingredient],
            "score": step.score,
            "accepted": step.accepted,
            "best": step.best,
        }
        content.append(decision | _against(soup, step, seed))
        soup = step if step.accepted else soup
    return content


def _against(soup: Step | None, candidate: Step, seed: int) -> dict[str, Any]:
    from stockpot.statistics.paired import paired_test

    undecided = dict.fromkeys(("difference", "p", "won", "lost"))
    if candidate.stopped:
        return {**undecided, "n": candidate.stopped.of, "stopped": asdict(candidate.stopped)}
    score, values = _whole(candidate)
    if soup is None:
        return {**undecided, "n": len(values)}
    reference_score, reference = _whole(soup)
    tested = paired_test(values, reference, seed=seed)
    return {
        "difference": score - reference_score,
        "p": tested.p,
        "won": tested.won,
        "lost": tested.lost,
        "n": tested.n,
    }


def _whole(step: Step) -> tuple[float, Floats]:
    """Return the score and the values (N,) of a step whose evaluation was not stopped."""
    assert step.score is not None, "a whole evaluation has a score"
    assert step.values is not None, "a whole evaluation has values"
    return step.score, step.values.cpu().numpy()
