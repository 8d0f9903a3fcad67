"""FedAvgM: momentum at the server (Hsu et al. 2019, https://arxiv.org/abs/1909.06335)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stockpot.soups.rounds.changes import (
    check_range,
    equal_shares,
    in_types,
    plus,
    stepped,
    weighted_change,
)
from stockpot.soups.rounds.rule import Merged, Round, ServerRule


@dataclass(frozen=True, kw_only=True)
class ServerMomentum(ServerRule):
    """Server momentum: each round's mean change is added to a decaying sum of those before.

    Attributes:
        momentum: factor on the sum per round, in [0, 1).
        server_step: length of the step along the sum.

    Source: section 4.3, v <- momentum v + mean change; x <- x + server_step v.
    """

    momentum: float = 0.9
    server_step: float = 1.0

    def __post_init__(self) -> None:
        check_range("server_step", self.server_step, 0, math.inf)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum!r}")

    def merge(self, done: Round) -> Merged:
        """Update the sum and step along it."""
        shares = equal_shares(done)
        velocity = plus((self.momentum, done.memory), (1.0, weighted_change(done, shares)))
        weights = stepped(done, velocity, self.server_step, shares)
        return Merged(weights, in_types(velocity, done.start), shares=shares)
