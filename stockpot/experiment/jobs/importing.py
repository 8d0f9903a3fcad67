"""Taking checkpoints that others have trained: headers first, then weights, then val scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError, StageFailed
from stockpot.ingredients.importing.sources import ImportSource
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Failure, Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.ingredients.importing.model_form import ModelForm
    from stockpot.storage.weights.sources import Source

IMPORTING_MODULES = (
    "stockpot.ingredients.importing.fitting",
    "stockpot.ingredients.importing.model_form",
    "stockpot.storage.weights.opening",
)
"""The modules that make weights of a checkpoint."""

_CONTRACT = 1


@dataclass(frozen=True, slots=True)
class HeaderJob:
    """The look at the headers of checkpoints, as plain values that a worker process can be sent.

    Attributes:
        workload: whose model they should be of.
        paths: of the checkpoints, as people know them and absolute.
    """

    workload: WorkloadSpec
    paths: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class Headers:
    """What headers said.

    Attributes:
        form: digest of the names, shapes and dtypes of the workload's model.
        problems: why each checkpoint is not of this model; empty for those that are.
    """

    form: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportJob:
    """One checkpoint to be imported, as plain values that a worker process can be sent.

    Attributes:
        root: the project root.
        workload: on whose val it is scored.
        kind: base or ingredient.
        source: the checkpoint, which was found.
        digest: of its files.
        form: digest of the form of the workload's model.
        start: the base that it counts from, and that an adapter is put on; None for a base.
        foreign: why it cannot be used, if headers have shown that.
        twin: the name of an equal one, which is used instead.
    """

    root: Path
    workload: WorkloadSpec
    kind: str
    source: ImportSource
    digest: str
    form: str
    start: Checkpoint | None
    foreign: str = ""
    twin: str = ""

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.source.name

    @property
    def key(self) -> str:
        """The content key: equal files are equal weights, wherever they are."""
        return content_key(
            contract=_CONTRACT,
            kind=self.kind,
            imported=self.digest,
            start=self.start.digest if self.start and self.source.is_adapter else None,
            form=self.form,
            hyperparameters=dict(self.source.hyperparameters),
            code=code_key(*IMPORTING_MODULES),
            twin=self.twin,
        )

    def find(self) -> Model | None:
        """Return the model if the store has it; without scores."""
        model = Store(self.root).find(self.kind, self.key, self.name)
        return None if model is None else self._from_source(model)

    def known_failure(self) -> Failure | None:
        """Return why the checkpoint cannot be used, if that is known."""
        if self.foreign:
            return self.failure(self.foreign)
        if self.twin:
            return self.failure(f"{self.source.shown}: equal to {self.twin}, which is used once")
        reason = Store(self.root).failure(self.kind, self.key)
        return None if reason is None else self.failure(reason)

    def failure(self, reason: str, *, final: bool = True) -> Failure:
        """Build the record of a failure of this job."""
        return Failure(self.name, self.key, self.source.hyperparameters, reason, final)

    def _from_source(self, model: Model) -> Model:
        """Say where the file is now: the store knows equal files by their content."""
        return replace(model, details={**model.details, "source": self.source.shown})


def check_headers(job: HeaderJob, _device: str) -> Headers:
    """Compare checkpoints with the workload's model; runs in a worker process.

    No weights are read, but those of pickles of the older form, which have no header.
    """
    from stockpot.ingredients.importing.model_form import form_of

    form = form_of(job.workload.build())
    return Headers(form.digest, tuple(_problem(form, *paths) for paths in job.paths))


def import_weights(job: ImportJob, device: str) -> Model | Failure:
    """Copy a checkpoint into the store and score it on val; runs in a worker process.

    Returns:
        The model, or the failure of a checkpoint that cannot be used.
    """
    from stockpot.scoring.val_scores import score_on_val

    with Store(job.root).lock(job.key):
        if known := job.known_failure():
            return known
        model = job.find()
        if model is None:
            try:
                model = _import(job)
            except InputError as error:
                reason = str(error).replace(str(job.source.path), job.source.shown)
                Store(job.root).save_failure(job.kind, job.key, reason)
                return job.failure(reason)
    return score_on_val(job.root, job.workload, model, device)


def _import(job: ImportJob) -> Model:
    from stockpot.ingredients.importing.fitting import fit, read_weights
    from stockpot.ingredients.importing.model_form import form_of
    from stockpot.storage.weights.opening import open_source

    form = form_of(job.workload.build())
    source = open_source(job.source.path, _base_of(job))
    fitted = fit(source, form)
    weights = read_weights(source, form, fitted)
    _check_unchanged(job)
    return _save(job, weights, fitted.notes)


def _save(job: ImportJob, weights: Mapping[str, Tensor], notes: Sequence[str]) -> Model:
    imported = {"digest": job.digest, "notes": list(notes)}
    details = {"hyperparameters": dict(job.source.hyperparameters), "imported": imported}
    Store(job.root).save(job.kind, job.key, job.name, weights, details)
    model = job.find()
    assert model is not None
    return model


def _base_of(job: ImportJob) -> Source | None:
    from stockpot.storage.checkpoints import verify
    from stockpot.storage.weights.sources import open_files

    if not job.source.is_adapter:
        return None
    assert job.start is not None, "headers are checked first, and a base is no adapter"
    return open_files(verify(job.root, job.start))


def _check_unchanged(job: ImportJob) -> None:
    """Refuse a file that was written to since its digest was formed."""
    from stockpot.storage.digests import DigestCache

    if DigestCache(job.root / ".stockpot").known([job.source.files]) != [job.digest]:
        raise StageFailed(f"{job.source.shown}: was changed while it was imported; run again")


def _problem(form: ModelForm, shown: str, path: Path) -> str:
    """Return why a checkpoint is not of the model; empty if it is."""
    from stockpot.ingredients.importing.fitting import fit
    from stockpot.storage.weights.opening import open_source

    try:
        fit(open_source(path, form.as_source()), form)
    except InputError as error:
        return str(error).replace(str(path), shown)
    return ""
