"""FedAvg with momentum in the clients' steps (Cheng et al. 2024).

Momentum Benefits Non-IID Federated Learning Simply and Provably,
https://arxiv.org/abs/2306.16504.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.soups.rounds.changes import (
    check_range,
    equal_shares,
    in_types,
    plus,
    stepped,
    weighted_change,
)
from stockpot.soups.rounds.rule import Correction, Merged, Round, ServerRule

if TYPE_CHECKING:
    from stockpot.merging.states import State


@dataclass(frozen=True, kw_only=True)
class FedAvgM(ServerRule):
    """FedAvg-M: each local step mixes the gradient with the mean direction of the last round.

    Attributes:
        beta: share of the client's own gradient, in (0, 1]; 1 is FedAvg with equal weights.
        server_step: the paper's step gamma as a multiple of the clients' path; 1 is the mean.

    Source: algorithm 1: local steps along beta gradient + (1 - beta) g, where g is the mean
    change of the last round per local step. The paper has all clients take part; with fewer, g is
    the mean over those that do.
    """

    beta: float = 0.1
    server_step: float = 1.0
    needs_sgd = True

    def __post_init__(self) -> None:
        check_range("beta", self.beta, 0, 1)
        check_range("server_step", self.server_step, 0, math.inf)

    def correction(self, memory: State, own: State) -> Correction:  # noqa: ARG002 (server's alone)
        """Return beta, and (1 - beta) times the last direction."""
        return Correction(self.beta, in_types(plus((1 - self.beta, memory)), memory))

    def merge(self, done: Round) -> Merged:
        """Step to the mean; remember the mean direction."""
        shares = equal_shares(done)
        change = weighted_change(done, shares)
        direction = in_types(plus((-1 / done.path, change)), done.start)
        return Merged(stepped(done, change, self.server_step, shares), direction, shares=shares)
