"""A federation: clients with shards of train, and the rule that merges their models in rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockpot.experiment.round_files import RoundFiles
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.soups.rounds.participation import participants
from stockpot.soups.rounds.registry import ROUND_RULES
from stockpot.soups.rounds.rule import RoundRule
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.workloads.spec import WorkloadSpec

_CONTRACT = 1
_SETTINGS = ("rule", "options", "shards", "concentration", "probabilities", "local_steps")


@dataclass(frozen=True, slots=True)
class Federation:
    """Clients and their rule, as plain values that can be sent to a worker process.

    Attributes:
        root: the project root.
        workload: has the data and the model.
        rule: the name of the rule that merges.
        options: of the rule.
        shards: dirichlet or iid: how train is divided among the clients.
        concentration: of shards: dirichlet.
        probabilities: that a client takes part in a round, one per client.
        local_steps: steps of each participant per round.
        hyperparameters: of these steps; the seed is that of all random choices.
        base: the base; clients start from it, unless `is_random`.
        is_random: whether the initial weights are drawn from the seed instead.
        threads: torch threads of the worker; they change the last bits of the result.
        save_every_seconds: minimum time between two saves of the state of a client's run.
    """

    root: Path
    workload: WorkloadSpec
    rule: str
    options: Mapping[str, Any] = field(hash=False)
    shards: str
    concentration: float
    probabilities: tuple[float, ...]
    local_steps: int
    hyperparameters: Hyperparameters
    base: Checkpoint
    is_random: bool
    threads: int
    save_every_seconds: float

    @property
    def num_clients(self) -> int:
        """The number of clients."""
        return len(self.probabilities)

    @property
    def seed(self) -> int:
        """The seed of all random choices."""
        return self.hyperparameters.seed

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are recorded and hashed, besides hyperparameters and start."""
        return {name: getattr(self, name) for name in _SETTINGS}

    @property
    def key(self) -> str:
        """Content key of everything that the model after any number of rounds depends on."""
        return content_key(
            contract=_CONTRACT,
            federation=self.settings,
            hyperparameters=self.hyperparameters.described(),
            start=None if self.is_random else self.base.digest,
            threads=self.threads,
            **self.workload.training_key_parts(),
            code=code_key(*rounds_modules(self.rule), *self.workload.modules),
        )

    @property
    def files(self) -> RoundFiles:
        """The files of the rounds that are done."""
        return RoundFiles(self.root / ".stockpot" / "rounds" / self.key)

    def build(self) -> RoundRule:
        """Return the rule."""
        return ROUND_RULES[self.rule].build(**self.options)

    def client_jobs(self, number: int) -> list[ClientJob]:
        """Return the jobs of the participants of a round, numbered from 1."""
        chosen = participants(self.seed, number, self.probabilities)
        return [ClientJob(self, number, client) for client in chosen]


@dataclass(frozen=True, slots=True)
class ClientJob:
    """The local steps of one client in one round, as plain values.

    Attributes:
        federation: its clients and rule.
        number: the round, from 1.
        client: from 0.
    """

    federation: Federation
    number: int
    client: int

    @property
    def name(self) -> str:
        """Name of the client's run."""
        return f"{self.federation.rule}-round-{self.number}-client-{self.client}"

    @property
    def is_lost(self) -> bool:
        """Whether the client was left out of the round: its worker died or took too long."""
        return self.client in self.federation.files.lost().get(self.number, {})


def rounds_modules(rule: str) -> tuple[str, ...]:
    """Return the modules that make a model in rounds; their imports are found from them."""
    return ("stockpot.experiment.jobs.round_steps", ROUND_RULES.module_of(rule))
