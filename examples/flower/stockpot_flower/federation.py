"""A federation without any transport: what the server and a client do in a round.

Rules, shards, seeds and training are those of `sweep.rounds`, so that the same entry of the same
file gives the same weights in `stockpot sweep` and in Flower.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stockpot.config import Experiment, load_experiment
from stockpot.config.rounds import RoundsSection
from stockpot.errors import InputError, unknown_name
from stockpot.experiment.plan import Plan
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.local_steps import LocalSteps
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.shards import labels_of, split_into_shards
from stockpot.seeding import seeded_generator
from stockpot.soups.rounds.participation import participants
from stockpot.soups.rounds.rule import Correction, Merged, Round, RoundRule
from stockpot.soups.rounds.seeds import client_seed, rounds_seed
from stockpot.storage.checkpoints import load_tensors, save_checkpoint, verify
from stockpot.storage.manifests import models_of, read_manifest
from stockpot.storage.project import Project
from stockpot.workloads.batches import num_examples
from stockpot.workloads.protocol import Workload

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Federation:
    """An entry of `sweep.rounds`, and the experiment that it belongs to.

    Attributes:
        experiment: has the seed, the workload and the number of threads.
        recipe: the entry.
    """

    experiment: Experiment
    recipe: RoundsSection

    @classmethod
    def read(cls, file: Path, name: str) -> Federation:
        """Read the entry called `name` of a file of the form of params.yaml.

        Raises:
            InputError: the file has an error, no such entry, or one with a rule without a server.
        """
        experiment = load_experiment(file)
        entries = {entry.name: entry for entry in experiment.sweep.rounds}
        if name not in entries:
            raise unknown_name(f"entry of sweep.rounds in {file.name}", name, entries)
        federation = cls(experiment, entries[name])
        if not federation.rule.has_server:
            raise InputError(
                f"{file.name}: sweep.rounds: rule must be one with a server, "
                f"got {federation.recipe.rule!r}"
            )
        return federation

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Federation:
        """Return the federation of the server, from what it has sent."""
        experiment = Experiment.model_validate_json(settings["experiment"])
        entries = {entry.name: entry for entry in experiment.sweep.rounds}
        return cls(experiment, entries[settings["entry"]])

    @cached_property
    def settings(self) -> dict[str, str]:
        """The settings that the server sends: a client may have another version of the file."""
        return {"experiment": self.experiment.model_dump_json(), "entry": self.recipe.name}

    @cached_property
    def rule(self) -> RoundRule:
        """The rule of rounds."""
        return self.recipe.build()

    @cached_property
    def hyperparameters(self) -> Hyperparameters:
        """Those of the clients; their seed is that of all random choices."""
        seed = rounds_seed(self.experiment.seed)
        return Hyperparameters.from_point({**self.recipe.point(), "seed": seed})

    @property
    def seed(self) -> int:
        """The seed of all random choices."""
        return self.hyperparameters.seed

    @cached_property
    def workload(self) -> Workload:
        """Data and model."""
        nowhere = Project(Path(), Path("params.yaml"))
        return Plan(nowhere, self.experiment).workload.build()

    @cached_property
    def shards(self) -> list[Tensor]:
        """The rows of train of each client."""
        by_label = self.recipe.shards == "dirichlet"
        return split_into_shards(
            labels_of(self.workload, "train") if by_label else None,
            num_examples(self.workload.dataset("train")),
            self.recipe.clients,
            self.recipe.concentration,
            self.seed,
        )

    def first_model(self, project: Path) -> dict[str, Tensor]:
        """Return the model before the first round: the project's base, or random weights.

        Raises:
            InputError: the project has no base yet.
        """
        if self.recipe.start == "random":
            model = self.workload.build_model(seeded_generator(self.seed, "weights"))
            return {name: tensor.clone() for name, tensor in model.state_dict().items()}
        base = models_of(read_manifest(project, "base"))[0]
        return load_tensors(verify(project, base.checkpoint))


@dataclass(frozen=True)
class Update:
    """The reply of a client after its local steps.

    Attributes:
        model: its weights.
        num_examples: the size of its shard.
        loss: of its first batch.
    """

    model: State
    num_examples: int
    loss: float


def train(
    federation: Federation,
    number: int,
    client: int,
    model: State,
    correction: Correction,
    *,
    own_data: bool = False,
) -> Update:
    """Do the local steps of a client in a round.

    Args:
        federation: its settings.
        number: the round, from 1.
        client: from 0.
        model: the server's model.
        correction: of the client's gradients.
        own_data: train on all examples of this machine's train, rather than on shard `client`.

    Raises:
        Diverged: a loss or a weight is not finite.
    """
    rows = torch.arange(num_examples(federation.workload.dataset("train")))
    if not own_data:
        rows = federation.shards[client]
    how = replace(federation.hyperparameters, seed=client_seed(federation.seed, number, client))
    steps = federation.recipe.local_steps
    local = LocalSteps(rows, steps, correction.scale, correction.offset)
    torch.set_num_threads(federation.experiment.run.threads)
    trained = fine_tune(federation.workload, model, how, split="train", local=local)
    assert trained.first_loss is not None, "a client has at least one step"
    return Update(trained, len(rows), trained.first_loss)


@dataclass
class Server:
    """The global model, and what the rule remembers from round to round.

    Attributes:
        federation: its settings.
        model: the global model.
        memory: what the rule remembers for all clients.
        own: what it remembers per client.
    """

    federation: Federation
    model: dict[str, Tensor]
    memory: State = field(default_factory=dict)
    own: dict[int, State] = field(default_factory=dict)

    def participants(self, number: int) -> tuple[int, ...]:
        """Return the clients that are asked to take part in a round."""
        federation = self.federation
        return participants(federation.seed, number, federation.recipe.probabilities)

    def correction(self, client: int) -> Correction:
        """Return the correction of a client's gradients in the next round."""
        return self.federation.rule.correction(self.memory, self.own.get(client, {}))

    def merge(self, number: int, updates: Mapping[int, Update]) -> Merged:
        """Merge the models of a round; without any, the rule decides what happens.

        Raises:
            ValueError: a client has sent other tensors than the model's, or the merge is not
                finite.
        """
        for client, update in updates.items():
            self._check(client, update.model)
        federation, clients = self.federation, sorted(updates)
        done = Round(
            number=number,
            seed=federation.seed,
            num_clients=federation.recipe.clients,
            start=self.model,
            models={client: updates[client].model for client in clients},
            num_examples={client: updates[client].num_examples for client in clients},
            path=federation.hyperparameters.learning_rate * federation.recipe.local_steps,
            memory=self.memory,
            own=self.own,
        )
        rule = federation.rule
        merged = rule.merge(done) if updates else rule.without_participants(done)
        for name, tensor in merged.weights.items():
            if not tensor.isfinite().all():
                raise ValueError(f"round {number}: weight {name!r} of the merge is not finite")
        self.model, self.memory = merged.weights, merged.memory
        self.own |= merged.own
        return merged

    def save(self, file: Path, history: list[dict[str, float]]) -> None:
        """Save the model, and next to it what `sweep.import` shows as its hyperparameters."""
        recipe = self.federation.recipe
        shown = {"rule": recipe.rule, "rounds": recipe.rounds, "clients": recipe.clients}
        described = {**self.federation.hyperparameters.described(), **shown, **recipe.settings}
        file.parent.mkdir(parents=True, exist_ok=True)
        record = {"hyperparameters": described, "history": history}
        file.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        save_checkpoint(file, self.model, {})

    def _check(self, client: int, model: State) -> None:
        wanted, sent = ({n: t.shape for n, t in state.items()} for state in (self.model, model))
        if sent != wanted:
            differing = sorted(n for n in {**wanted, **sent} if wanted.get(n) != sent.get(n))
            raise ValueError(
                f"client {client}: must send the tensors of the model that it got, names and "
                f"shapes; others are {differing}"
            )
