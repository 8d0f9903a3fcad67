"""Which clients take part in a round."""

from __future__ import annotations

import random
from collections.abc import Sequence

from stockpot.seeding import derive_seed


def participants(seed: int, number: int, probabilities: Sequence[float]) -> tuple[int, ...]:
    """Return the clients that take part in a round, each with its own probability.

    Rounds and clients are independent of each other.

    Args:
        seed: of the pattern.
        number: the round, from 1.
        probabilities: one per client, in [0, 1].
    """
    draws = random.Random(derive_seed(seed, "participation", number))
    return tuple(client for client, p in enumerate(probabilities) if draws.random() < p)
