"""The bases of jobs, and how a model is made: once, stored, and scored on val."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stockpot.experiment.provenance import Provenance
from stockpot.storage.models import Failure, Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentJob:
    """Work on an experiment's models, as plain values that can be sent to a worker process.

    Attributes:
        root: the project root.
        workload: the data.
        metric: the val score that choices use, by its name in the scores.
        seed: of random choices.
    """

    root: Path
    workload: WorkloadSpec
    metric: str
    seed: int


class CannotMake(Exception):
    """The model of a job cannot be made, and another try would end the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJob(ABC):
    """A model to make, as plain values that can be sent to a worker process.

    Attributes:
        root: the project root.
        workload: the data; the model is scored on its val split.
        name: the model's name.
        kind: base, ingredient, soup or tuned.
    """

    root: Path
    workload: WorkloadSpec
    name: str
    kind: str

    @property
    @abstractmethod
    def key(self) -> str:
        """Content key: jobs with equal keys make equal models."""

    @property
    @abstractmethod
    def parents(self) -> Mapping[str, str]:
        """Content keys of the models that this one may be made from, by name."""

    @abstractmethod
    def work(self, device: str) -> Model:
        """Make the model and save it in the store; without scores.

        Raises:
            CannotMake: with the reason, which is recorded in the store.
        """

    @abstractmethod
    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to rebuild the model that this job has made."""

    @property
    def lock_key(self) -> str:
        """The key of a lock; no two jobs with the same one run at the same time."""
        return self.key

    @property
    def settings(self) -> Mapping[str, float | str]:
        """The hyperparameters of a training run, for the record of a failure."""
        return {}

    @property
    def obstacle(self) -> str:
        """Why the model cannot be made, if the job itself shows that; empty otherwise."""
        return ""

    def find(self) -> Model | None:
        """Return the model if the store has it; without scores."""
        return Store(self.root).find(self.kind, self.key, self.name)

    def known_failure(self) -> Failure | None:
        """Return why the model cannot be made, if that is known."""
        reason = self.obstacle or Store(self.root).failure(self.kind, self.key)
        return self.failure(reason) if reason else None

    def failure(self, reason: str, *, final: bool = True) -> Failure:
        """Build the record of a failure of this job."""
        return Failure(self.name, self.key, self.settings, reason, final)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergingJob(ModelJob):
    """A model to merge from ingredients.

    Attributes:
        seed: of random choices.
        base: the model that the ingredients were fine-tuned from.
        ingredients: the models that may be merged, with val scores.
        metric: name of the val score that orders the ingredients.
        threads: torch threads of the worker; they change the last bits of what it trains.
    """

    seed: int
    base: Model
    ingredients: tuple[Model, ...]
    metric: str
    threads: int = 1

    @property
    def parents(self) -> Mapping[str, str]:
        """Content keys of all ingredients that may be merged, by name."""
        return {model.name: model.key for model in self.ingredients}

    @property
    @abstractmethod
    def is_trained(self) -> bool:
        """Whether the model is trained after the merge, or instead of it."""

    @property
    def training_key_parts(self) -> Mapping[str, int]:
        """The parts of the content key of a model that is trained; none of others."""
        return {"threads": self.threads} if self.is_trained else {}

    @abstractmethod
    def merged(self, model: Model) -> list[Model]:
        """Return the ingredients that a model of this job was merged from, in order."""

    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to merge the model again, without choosing again."""
        merged = tuple((each.name, each.checkpoint) for each in self.merged(model))
        base, threads = self.base.checkpoint, self.threads
        return Provenance(model, self.workload, self.seed, threads, base, merged)


def make_model(job: ModelJob, device: str) -> Model | Failure:
    """Make the model of a job unless the store has it, and score it on val.

    Runs in a worker process.

    Returns:
        The model, or the failure of a job that cannot make one.
    """
    from stockpot.scoring.val_scores import score_on_val

    store = Store(job.root)
    with store.lock(job.lock_key):
        if known := job.known_failure():
            return known
        try:
            model = job.find() or job.work(device)
        except CannotMake as error:
            store.save_failure(job.kind, job.key, str(error))
            return job.failure(str(error))
    return score_on_val(job.root, job.workload, model, device)
