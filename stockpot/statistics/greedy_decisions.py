"""Greedy selection's own decisions: which of them the noise of val could have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KEPT = ("ingredient", "accepted", "difference", "p", "won", "lost", "n")


def greedy_decisions(steps: Sequence[Mapping[str, Any]], confidence: float) -> list[dict[str, Any]]:
    """Say of each decision whether its p lies within the noise, without correction for many.

    Args:
        steps: of a greedy soup, as the soups manifest has them; the first ingredient was not
            decided upon.
        confidence: a p of at least 1 - `confidence` is within the noise.
    """
    level = round(1 - confidence, 12)
    return [
        {**{name: step[name] for name in _KEPT}, "within_noise": step["p"] >= level}
        for step in steps[1:]
    ]
