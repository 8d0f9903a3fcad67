"""A search whose scores several processes share; in a module that they can all import."""

from __future__ import annotations

import json
import time
from pathlib import Path

from stockpot.experiment.jobs.shared_scores import SharedScores

CANDIDATES = {f"candidate {number}": float(number) for number in range(12)}


def squared(candidate: float) -> tuple[float, ...]:
    return (candidate**2, -candidate)


def search(address: str, log: Path) -> None:
    """Score all candidates, and log which this process has scored, and what it found."""
    scored: list[float] = []

    def evaluate(candidate: float) -> tuple[float, ...]:
        time.sleep(0.3)
        scored.append(candidate)
        return squared(candidate)

    found = SharedScores(address, "study", 2).score(CANDIDATES, evaluate)
    log.write_text(json.dumps({"scored": scored, "found": found}))
