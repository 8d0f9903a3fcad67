"""Clients whose losses are parabolas, so that rounds of any rule can be followed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stockpot.soups.rounds.rule import Correction, Merged, Round, RoundRule

State = dict[str, Tensor]


@dataclass
class Simulation:
    """Rounds of a rule on clients with losses curvature / 2 * (x - target)^2.

    Attributes:
        rule: the rule.
        targets: per client.
        curvatures: per client.
        steps: local steps per round.
        rate: their learning rate.
    """

    rule: RoundRule
    targets: Sequence[float]
    curvatures: Sequence[float]
    steps: int = 3
    rate: float = 0.1
    x: State = field(default_factory=lambda: {"x": torch.zeros(2, dtype=torch.float64)})
    memory: State = field(default_factory=dict)
    own: dict[int, State] = field(default_factory=dict)
    number: int = 0

    def run(self, rounds: int, participants: Sequence[int] | None = None) -> Simulation:
        """Do some rounds with these participants; None: all."""
        clients = range(len(self.targets)) if participants is None else participants
        for _ in range(rounds):
            self.number += 1
            merged = self.merged([*clients])
            self.x, self.memory = dict(merged.weights), dict(merged.memory)
            self.own |= {client: dict(state) for client, state in merged.own.items()}
        return self

    def merged(self, clients: Sequence[int]) -> Merged:
        models = {client: self.trained(client) for client in clients}
        done = Round(
            number=max(1, self.number),
            seed=0,
            num_clients=len(self.targets),
            start=self.x,
            models=models,
            num_examples=dict.fromkeys(models, 1),
            path=self.rate * self.steps,
            memory=self.memory,
            own=self.own,
        )
        return self.rule.merge(done) if models else self.rule.without_participants(done)

    def correction(self, client: int) -> Correction:
        return self.rule.correction(self.memory, self.own.get(client, {}))

    def trained(self, client: int) -> State:
        correction = self.correction(client)
        x = self.rule.start_of(self.x, self.own.get(client, {}))["x"].clone()
        for _ in range(self.steps):
            direction = correction.scale * self.gradient(client, x)
            x -= self.rate * (direction + correction.offset.get("x", torch.zeros(())))
        return {"x": x}

    def gradient(self, client: int, x: Tensor) -> Tensor:
        return self.curvatures[client] * (x - self.targets[client])

    @property
    def optimum(self) -> float:
        """The minimum of the mean loss."""
        weighted = zip(self.targets, self.curvatures, strict=True)
        return sum(t * c for t, c in weighted) / sum(self.curvatures)


def one_round(models: Sequence[State], start: State, /, **others: object) -> Round:
    """Return a round in which these models were made, each from one example."""
    given: dict[str, object] = {
        "number": 1,
        "seed": 0,
        "num_clients": len(models),
        "start": start,
        "models": dict(enumerate(models)),
        "num_examples": dict.fromkeys(range(len(models)), 1),
        "path": 1.0,
    }
    return Round(**(given | others))  # type: ignore[arg-type]  # of the fields' types
