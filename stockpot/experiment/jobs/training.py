"""The job that trains a base or an ingredient, and the snapshots along its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from stockpot.experiment.jobs.job import CannotMake, ModelJob
from stockpot.experiment.provenance import Provenance
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.ingredients.finetuning.adapters import TunedWeights

TRAINING_MODULES = ("stockpot.ingredients.finetuning.loop",)
"""The modules that train; their imports are found from these."""

# Increase this if the meaning of a checkpoint changes although the training code does not.
_CONTRACT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob(ModelJob):
    """One training run, as plain values that can be sent to a worker process.

    Attributes:
        hyperparameters: of the run.
        start: the checkpoint to start from; None initialises the weights from the seed.
        threads: torch threads of the worker; they change the last bits of the result.
        save_every_seconds: minimum time between two saves of the state of the run.
        snapshots: epochs after which the weights are saved as further ingredients.
        until: the epoch whose weights are this job's model; None for the end of the run.
        anchor: the model that the hyperparameter `anchor` names; None for the start or no anchor.
    """

    hyperparameters: Hyperparameters
    start: Checkpoint | None
    threads: int
    save_every_seconds: float
    snapshots: tuple[int, ...] = ()
    until: int | None = None
    anchor: Checkpoint | None = None

    @property
    def key(self) -> str:
        """Content key: jobs with equal keys make equal weights."""
        until = {} if self.until is None else {"until": self.until}
        anchor = {} if self.anchor is None else {"anchor": self.anchor.digest}
        return content_key(
            **until,
            **anchor,
            contract=_CONTRACT,
            kind=self.kind,
            hyperparameters=self.hyperparameters.described(),
            start=self.start.digest if self.start else None,
            threads=self.threads,
            **self.workload.training_key_parts(),
            code=code_key(*TRAINING_MODULES, *self.workload.modules),
        )

    @property
    def snapshot_jobs(self) -> list[TrainingJob]:
        """The jobs whose models are the snapshots along this run."""
        return [
            replace(self, name=f"{self.name}-epoch-{epoch}", until=epoch, snapshots=(epoch,))
            for epoch in self.snapshots
        ]

    @property
    def parents(self) -> Mapping[str, str]:
        """The base's content key; none if this job trains the base."""
        return {"base": self.start.key} if self.start else {}

    @property
    def settings(self) -> Mapping[str, float | str]:
        """The hyperparameters."""
        return self.hyperparameters.described()

    def work(self, device: str) -> Model:
        """Train the model, or resume its training."""
        from stockpot.ingredients.finetuning.divergence import Diverged
        from stockpot.ingredients.finetuning.loop import fine_tune
        from stockpot.ingredients.finetuning.partial_state import PartialState
        from stockpot.storage.checkpoints import load_tensors, verify

        file = self.root / ".stockpot" / "partial" / f"{self.key}.safetensors"
        try:
            weights = fine_tune(
                self.workload.build(),
                load_tensors(verify(self.root, self.start)) if self.start else None,
                self.hyperparameters,
                split="pretrain" if self.start is None else "train",
                device=device,
                partial=PartialState(file, self.save_every_seconds),
                on_epoch=partial(_save_snapshot, self) if self.snapshots else None,
                scores=_scores(self, device),
                anchor=load_tensors(verify(self.root, self.anchor)) if self.anchor else None,
            )
        except Diverged as error:
            raise CannotMake(str(error)) from error
        model = self.find() if self.until else _save(self, weights)
        if model is None:
            raise CannotMake(f"the run stopped before epoch {self.until}")
        return model

    def starting_at(self, start: Checkpoint, soup: Checkpoint | None = None) -> TrainingJob:
        """Return the run from another start; `anchor: base` stays the base, `soup` is given."""
        anchors = {"none": None, "base": self.start, "soup": soup}
        return replace(self, start=start, anchor=anchors[self.hyperparameters.anchor])

    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to train the model again."""
        return Provenance(
            model, self.workload, threads=self.threads, base=self.start, anchor=self.anchor
        )


def _scores(job: TrainingJob, device: str) -> Tensor | None:
    """Return the cached difficulty scores of train's examples, if the run prunes data."""
    from stockpot.ingredients.finetuning.score_cache import train_scores

    how, start = job.hyperparameters, job.start
    if start is None or not how.prunes_data:
        return None
    return train_scores(job.root, job.workload, start, how, device)


def _save_snapshot(job: TrainingJob, epoch: int, weights: Callable[[], TunedWeights]) -> None:
    for snapshot in job.snapshot_jobs:
        if snapshot.until == epoch:
            _save(snapshot, weights())


def _save(job: TrainingJob, weights: TunedWeights) -> Model:
    store = Store(job.root)
    details: dict[str, Any] = {"hyperparameters": job.hyperparameters.described()}
    details |= {"epoch": job.until} if job.until else {}
    if job.start:
        details["start"] = asdict(job.start)
    if job.anchor:
        details["anchor"] = asdict(job.anchor)
    details["distances"] = [[steps, round(far, 6)] for steps, far in weights.distances]
    if adapter := weights.adapter:
        base = job.start.path if job.start else None
        config = {**adapter.config, "base_model_name_or_path": base}
        details["adapter"] = store.save_adapter(job.kind, job.key, adapter.tensors, config)
    return store.save(job.kind, job.key, job.name, weights, details)
