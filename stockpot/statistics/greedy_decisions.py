"""Decisions of greedy selection that may be due to the noise of val."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_FIELDS = ("ingredient", "accepted", "difference", "p", "won", "lost", "n")


def greedy_decisions(steps: Sequence[Mapping[str, Any]], confidence: float) -> list[dict[str, Any]]:
    """Return the decisions, each with `within_noise`, without correction for their number.

    Both it and p are None for a candidate whose evaluation was stopped.

    Args:
        steps: of a greedy soup, from the soups manifest; the first one is no decision.
        confidence: a decision with p of at least 1 - `confidence` is within the noise.
    """
    level = round(1 - confidence, 12)
    return [
        {
            **{name: step[name] for name in _FIELDS},
            "within_noise": None if step["p"] is None else step["p"] >= level,
        }
        for step in steps[1:]
    ]
