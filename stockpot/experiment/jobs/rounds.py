"""The job that makes an ingredient in rounds: clients train, their models are merged, repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.config import Experiment
from stockpot.experiment.federation import ClientJob, Federation
from stockpot.experiment.jobs.job import CannotMake, ModelJob
from stockpot.experiment.provenance import Provenance
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.soups.rounds.seeds import rounds_seed
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

_NEVER = 1e9  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundsJob(ModelJob):
    """An ingredient that is made in rounds, as plain values.

    Attributes:
        federation: the clients and the rule.
        rounds: number of rounds.
    """

    federation: Federation
    rounds: int

    @property
    def key(self) -> str:
        """Content key: jobs with equal keys make equal weights."""
        lost = {"lost": self.lost} if self.lost else {}
        return content_key(
            **lost, kind=self.kind, federation=self.federation.key, rounds=self.rounds
        )

    @property
    def lost(self) -> dict[str, list[int]]:
        """The clients that were left out because their worker died or took too long, by round."""
        found = self.federation.files.lost()
        return {str(n): sorted(found[n]) for n in sorted(found) if n <= self.rounds}

    @property
    def lock_key(self) -> str:
        """The key of the lock of all jobs that differ in the number of rounds alone."""
        return self.federation.key

    @property
    def parents(self) -> Mapping[str, str]:
        """The base's content key."""
        return {"base": self.federation.base.key}

    @property
    def settings(self) -> Mapping[str, float | str]:
        """The hyperparameters of the clients."""
        return self.federation.hyperparameters.described()

    @property
    def is_over(self) -> bool:
        """Whether no round is left to be done: the model is stored, or cannot be made."""
        return self.find() is not None or self.known_failure() is not None

    def work(self, device: str) -> Model:
        """Do the rounds that are not done yet, and save the model after the last one."""
        from stockpot.experiment.jobs import round_steps

        federation = self.federation
        for number in range(begin(self, device) + 1, self.rounds + 1):
            for job in federation.client_jobs(number):
                round_steps.train_client(job, device)
            round_steps.merge_round(federation, number, device)
        files = federation.files
        history = [[record["participants"], record["score"]] for record in files.records()]
        details: dict[str, Any] = {
            "hyperparameters": federation.hyperparameters.described(),
            "rounds": {
                "rounds": self.rounds,
                **federation.settings,
                "start": "random" if federation.is_random else "base",
                **({"lost": self.lost} if self.lost else {}),
                **round_steps.division_of(federation),
            },
            "history": history,
        }
        return Store(self.root).save(self.kind, self.key, self.name, files.model(), details)

    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to repeat the rounds."""
        federation = self.federation
        threads, base = federation.threads, federation.base
        return Provenance(model, self.workload, threads=threads, base=base)


def rounds_jobs(
    root: Path, workload: WorkloadSpec, experiment: Experiment, base: Checkpoint
) -> list[RoundsJob]:
    """Return the jobs of `sweep.rounds`; all have one seed, so that rules compare."""
    seed = rounds_seed(experiment.seed)
    return [
        RoundsJob(
            root=root,
            workload=workload,
            name=f"rounds-{recipe.name}",
            kind="ingredient",
            rounds=recipe.rounds,
            federation=Federation(
                root=root,
                workload=workload,
                rule=recipe.rule,
                options=recipe.settings,
                shards=recipe.shards,
                concentration=recipe.concentration,
                probabilities=recipe.probabilities,
                local_steps=recipe.local_steps,
                hyperparameters=Hyperparameters.from_point({**recipe.point(), "seed": seed}),
                base=base,
                is_random=recipe.start == "random",
                threads=experiment.run.threads,
                save_every_seconds=experiment.sweep.save_every_seconds,
            ),
        )
        for recipe in experiment.sweep.rounds
    ]


def begin(job: RoundsJob, device: str) -> int:
    """Prepare the first round, unless rounds are done; return their number.

    Raises:
        InputError: train has fewer examples than there are clients.
    """
    from stockpot.experiment.jobs.round_steps import begin_rounds

    return begin_rounds(job.federation, job.rounds, device)


def take_part(job: ClientJob, device: str) -> None:
    """Do the local steps of a client, unless they are done."""
    from stockpot.experiment.jobs.round_steps import train_client

    train_client(job, device)


def merge_or_fail(job: RoundsJob, number: int, device: str) -> None:
    """Merge the models of a round; record in the store why that is impossible."""
    from stockpot.experiment.jobs.round_steps import merge_round

    try:
        merge_round(job.federation, number, device)
    except CannotMake as error:
        Store(job.root).save_failure(job.kind, job.key, str(error))


def repeated(recorded: Provenance, place: Path) -> RoundsJob:
    """Return the job that repeats the rounds of a recorded model in a folder."""
    model = recorded.model
    assert recorded.base is not None, "rounds belong to a base"
    settings: dict[str, Any] = dict(model.details["rounds"])
    probabilities = tuple(settings["probabilities"])
    federation = Federation(
        root=place,
        workload=recorded.workload,
        rule=settings["rule"],
        options=settings["options"],
        shards=settings["shards"],
        concentration=settings["concentration"],
        probabilities=probabilities,
        local_steps=settings["local_steps"],
        hyperparameters=Hyperparameters(**model.details["hyperparameters"]),
        base=recorded.base,
        is_random=settings["start"] == "random",
        threads=recorded.threads,
        save_every_seconds=_NEVER,
    )
    for number, clients in settings.get("lost", {}).items():
        federation.files.save_lost(int(number), dict.fromkeys(clients, "as recorded"))
    return RoundsJob(
        root=place,
        workload=recorded.workload,
        name=model.name,
        kind=model.kind,
        federation=federation,
        rounds=settings["rounds"],
    )
