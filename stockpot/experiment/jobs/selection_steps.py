"""The steps of a selection in the form of manifests, each with a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stockpot.soups.selection.candidates import Step


def tested_steps(steps: Sequence[Step], names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Return the steps for manifests, each tested against the soup before it.

    The difference, its p and the numbers of examples won and lost are None for the first step,
    since there is no soup before it.

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

    if soup is None:
        undecided = dict.fromkeys(("difference", "p", "won", "lost"))
        return {**undecided, "n": len(candidate.values)}
    values, reference = candidate.values.cpu().numpy(), soup.values.cpu().numpy()
    tested = paired_test(values, reference, seed=seed)
    return {
        "difference": candidate.score - soup.score,
        "p": tested.p,
        "won": tested.won,
        "lost": tested.lost,
        "n": tested.n,
    }
