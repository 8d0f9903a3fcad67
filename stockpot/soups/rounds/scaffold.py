"""SCAFFOLD (Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.soups.rounds.changes import (
    check_range,
    equal_shares,
    in_types,
    mean_gradient,
    plus,
    stepped,
    weighted_change,
)
from stockpot.soups.rounds.rule import Correction, Merged, Round, ServerRule

if TYPE_CHECKING:
    from stockpot.merging.states import State, StateDict


@dataclass(frozen=True, kw_only=True)
class Scaffold(ServerRule):
    """SCAFFOLD: control variates remove the drift of clients towards their own data.

    Attributes:
        server_step: length of the step to the mean of the participants' models.

    Source: algorithm 1 with option II: a client's control variate becomes the mean of its
    gradients over the local steps. The server's is the mean over all clients.
    """

    server_step: float = 1.0
    needs_sgd = True

    def __post_init__(self) -> None:
        check_range("server_step", self.server_step, 0, math.inf)

    def correction(self, memory: State, own: State) -> Correction:
        """Return the server's control variate minus the client's."""
        return Correction(1.0, _difference(memory, own))

    def merge(self, done: Round) -> Merged:
        """Step to the mean; update the control variates of the participants and the server's."""
        shares = equal_shares(done)
        weights = stepped(done, weighted_change(done, shares), self.server_step, shares)
        corrections = {
            client: self.correction(done.memory, done.own.get(client, {})) for client in done.models
        }
        control, own = updated_controls(done, done.memory, done.own, corrections)
        return Merged(weights, control, own, shares)


def updated_controls(
    done: Round,
    control: State,
    own: Mapping[int, State],
    corrections: Mapping[int, Correction],
) -> tuple[StateDict, dict[int, StateDict]]:
    """Return the server's control variate and those of the participants after a round.

    Args:
        done: the round.
        control: the server's control variate before it; empty for 0.
        own: those of clients before it; a missing or empty one is 0.
        corrections: the corrections that the participants have used.
    """
    new = {
        client: in_types(mean_gradient(done, client, correction), done.start)
        for client, correction in corrections.items()
    }
    share = 1 / done.num_clients
    changes = [
        term
        for client, variate in new.items()
        for term in ((share, variate), (-share, own.get(client, {})))
    ]
    return in_types(plus((1.0, control), *changes), done.start), new


def _difference(control: State, own: State) -> StateDict:
    """Return the server's control variate minus a client's, in the type of the weights."""
    types = {**own, **control}
    return in_types(plus((1.0, control), (-1.0, own)), types)
