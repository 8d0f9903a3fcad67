"""SCAFFOLD with momentum in the clients' steps (Cheng et al. 2024).

Momentum Benefits Non-IID Federated Learning Simply and Provably,
https://arxiv.org/abs/2306.16504.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.soups.rounds.changes import in_types, named, part, plus
from stockpot.soups.rounds.fedavg_m import FedAvgM
from stockpot.soups.rounds.rule import Correction, Merged, Round
from stockpot.soups.rounds.scaffold import updated_controls

if TYPE_CHECKING:
    from stockpot.merging.states import State


@dataclass(frozen=True, kw_only=True)
class ScaffoldM(FedAvgM):
    """SCAFFOLD-M: control variates, and the mean direction of the last round in each local step.

    Attributes:
        beta: share of the corrected gradient, in (0, 1]; 1 is SCAFFOLD.
        server_step: the paper's step gamma as a multiple of the clients' path; 1 is the mean.

    Source: algorithm 2: local steps along beta (gradient - c_i + c) + (1 - beta) g; a client's
    control variate is the mean of its gradients, g the mean change of the last round per step.
    """

    def correction(self, memory: State, own: State) -> Correction:
        """Return beta, and beta (c - c_i) + (1 - beta) g."""
        control, direction = part(memory, "control"), part(memory, "direction")
        offset = plus((self.beta, control), (-self.beta, own), (1 - self.beta, direction))
        return Correction(self.beta, in_types(offset, {**own, **control, **direction}))

    def merge(self, done: Round) -> Merged:
        """Step to the mean; remember the mean direction and the control variates."""
        merged = super().merge(done)
        corrections = {
            client: self.correction(done.memory, done.own.get(client, {})) for client in done.models
        }
        control, own = updated_controls(done, part(done.memory, "control"), done.own, corrections)
        memory = named("control", control) | named("direction", merged.memory)
        return Merged(merged.weights, memory, own, merged.shares)
