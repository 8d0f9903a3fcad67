"""Federated averaging (McMahan et al. 2017, https://arxiv.org/abs/1602.05629)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stockpot.soups.rounds.changes import check_range, stepped, weighted_change
from stockpot.soups.rounds.rule import Merged, Round, ServerRule


@dataclass(frozen=True, kw_only=True)
class FedAvg(ServerRule):
    """FedAvg: the mean of the participants' models, weighted by their numbers of examples.

    Attributes:
        server_step: length of the step from the old model to that mean; 1 is the mean.

    Source: algorithm 1, with a server step.
    """

    server_step: float = 1.0

    def __post_init__(self) -> None:
        check_range("server_step", self.server_step, 0, math.inf)

    def merge(self, done: Round) -> Merged:
        """Step to the weighted mean."""
        total = sum(done.num_examples[client] for client in done.models)
        shares = {client: done.num_examples[client] / total for client in done.models}
        change = weighted_change(done, shares)
        return Merged(stepped(done, change, self.server_step, shares), shares=shares)
