"""FedAU: weights for unknown participation (Wang & Ji 2024, https://arxiv.org/abs/2306.03401)."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.soups.rounds.changes import check_range, stepped, weighted_change
from stockpot.soups.rounds.rule import Merged, Round, ServerRule

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.merging.states import State, StateDict


@dataclass(frozen=True, kw_only=True)
class FedAU(ServerRule):
    """FedAU: clients that take part rarely count more, by the mean interval between their rounds.

    Without a correction, the merged model is that of the clients that take part often. The mean
    interval estimates the inverse of a client's probability from its own history alone.

    Attributes:
        cutoff: longest interval; one that lasts longer is split. Bounds the weights.
        server_step: factor on the step.

    Source: algorithms 1 and 2: x <- x + server_step / N * sum of weight times change over the
    participants, where N counts all clients. The authors' code has no cutoff by default.
    """

    cutoff: int = 50
    server_step: float = 1.0

    def __post_init__(self) -> None:
        check_range("server_step", self.server_step, 0, math.inf)
        if self.cutoff < 1:
            raise ValueError(f"cutoff must be at least 1, got {self.cutoff!r}")

    def merge(self, done: Round) -> Merged:
        """Step along the weighted sum, then count the round."""
        weight = participation_weights(_history(done))
        shares = {client: float(weight[client]) / done.num_clients for client in done.models}
        change = weighted_change(done, shares)
        weights = stepped(done, change, self.server_step, shares)
        return Merged(weights, self._counted(done), shares=shares)

    def without_participants(self, done: Round) -> Merged:
        """Leave the model unchanged, and count the round."""
        return Merged(dict(done.start), self._counted(done))

    def _counted(self, done: Round) -> StateDict:
        return count_round(_history(done), done.models.keys(), self.cutoff)


def new_history(num_clients: int) -> StateDict:
    """Return the participation history of N clients before the first round.

    It has, per client, the number and the sum of its intervals that have ended, and the rounds
    since the last one ended; int64, (N,).
    """
    import torch

    zeros = torch.zeros(num_clients, dtype=torch.int64)
    return {"intervals": zeros, "total": zeros.clone(), "waited": zeros.clone()}


def participation_weights(history: State) -> Tensor:
    """Return the mean interval of each client, 1 before its first has ended; (N,), float64."""
    import torch

    number, total = history["intervals"], history["total"].double()
    return torch.where(number > 0, total / number.clamp(min=1), torch.ones_like(total))


def count_round(history: State, participants: Collection[int], cutoff: int) -> StateDict:
    """Return the history after a round: an interval ends when a client takes part, or is cut."""
    takes_part = history["waited"] < 0  # none
    takes_part[list(participants)] = True
    waited = history["waited"] + 1
    ends = takes_part | (waited >= cutoff)
    return {
        "intervals": history["intervals"] + ends,
        "total": history["total"] + waited * ends,
        "waited": waited * ~ends,
    }


def _history(done: Round) -> State:
    return done.memory or new_history(done.num_clients)
