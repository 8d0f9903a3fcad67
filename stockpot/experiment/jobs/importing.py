"""The jobs that import checkpoints: check all headers, then copy the weights of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stockpot.errors import InputError, StageFailed
from stockpot.experiment.jobs.job import CannotMake, ModelJob
from stockpot.experiment.provenance import Provenance
from stockpot.ingredients.importing.sources import ImportSource
from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.ingredients.importing.model_form import ModelForm

IMPORTING_MODULES = (
    "stockpot.ingredients.importing.fitting",
    "stockpot.ingredients.importing.model_form",
    "stockpot.storage.weights.opening",
)
"""The modules that convert a checkpoint to weights."""

_CONTRACT = 1


@dataclass(frozen=True, slots=True)
class Headers:
    """The result of a check of headers.

    Attributes:
        form: digest of the names, shapes and dtypes of the workload's model.
        problems: per checkpoint, why it does not match the model; empty if it does.
    """

    form: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportJob(ModelJob):
    """One checkpoint to import, as plain values that can be sent to a worker process.

    Attributes:
        source: the checkpoint.
        digest: of its files.
        form: digest of the form of the workload's model.
        start: the base, to which an adapter is applied; None if this job imports the base.
        foreign: why the checkpoint does not match the model; empty if it does.
        twin: name of an earlier checkpoint with equal files, which is used instead; or empty.
    """

    source: ImportSource
    digest: str
    form: str
    start: Checkpoint | None
    foreign: str = ""
    twin: str = ""

    @property
    def key(self) -> str:
        """Content key; it does not depend on the path of the files."""
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

    @property
    def parents(self) -> Mapping[str, str]:
        """The base's content key; none if this job imports the base."""
        return {"base": self.start.key} if self.start else {}

    @property
    def settings(self) -> Mapping[str, float | str]:
        """The hyperparameters that the checkpoint came with."""
        return self.source.hyperparameters

    @property
    def obstacle(self) -> str:
        """Why the checkpoint is not imported: it does not fit the model, or repeats another."""
        if self.foreign or not self.twin:
            return self.foreign
        return f"{self.source.shown}: equal to {self.twin}, which is used once"

    def find(self) -> Model | None:
        """Return the model if the store has it, with the present path of its source."""
        model = Store(self.root).find(self.kind, self.key, self.name)
        return model and self._with_source(model)

    def work(self, _device: str) -> Model:
        """Copy the checkpoint into the store."""
        try:
            weights, notes = _read(self)
        except InputError as error:
            raise CannotMake(_reason(error, self.source)) from error
        imported = {"digest": self.digest, "notes": list(notes)}
        details = {"hyperparameters": dict(self.source.hyperparameters), "imported": imported}
        store = Store(self.root)
        return self._with_source(store.save(self.kind, self.key, self.name, weights, details))

    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to import the model again."""
        return Provenance(model, self.workload, base=self.start)

    def _with_source(self, model: Model) -> Model:
        return replace(model, details={**model.details, "source": self.source.shown})


def check_headers(workload: WorkloadSpec, sources: Sequence[ImportSource], _device: str) -> Headers:
    """Compare checkpoints with the workload's model; runs in a worker process.

    No weights are read, except from pickles of the old format, which have no header.
    """
    from stockpot.ingredients.importing.model_form import form_of

    form = form_of(workload.build())
    return Headers(form.digest, tuple(_problem(form, source) for source in sources))


def _problem(form: ModelForm, source: ImportSource) -> str:
    """Return why a checkpoint does not match the model; empty if it does."""
    from stockpot.ingredients.importing.fitting import fit_by_any_names
    from stockpot.storage.weights.opening import open_source

    try:
        fit_by_any_names(open_source(source.path, form.as_source()), form)
    except InputError as error:
        return _reason(error, source)
    return ""


def _reason(error: InputError, source: ImportSource) -> str:
    """Return an error's text with the path as the user knows it."""
    return str(error).replace(str(source.path), source.shown)


def _read(job: ImportJob) -> tuple[Mapping[str, Tensor], Sequence[str]]:
    """Return the weights of a checkpoint, and notes on how they were fitted to the model.

    Raises:
        InputError: they cannot be read, or do not fit the model.
        StageFailed: the files have changed since their digest was computed.
    """
    from stockpot.ingredients.importing.fitting import fit_by_any_names, read_weights
    from stockpot.ingredients.importing.model_form import form_of
    from stockpot.storage.checkpoints import verify
    from stockpot.storage.digests import DigestCache
    from stockpot.storage.weights.opening import open_source
    from stockpot.storage.weights.sources import open_files

    form, base = form_of(job.workload.build()), None
    if job.source.is_adapter:
        assert job.start is not None, "headers are checked first, and a base is no adapter"
        base = open_files(verify(job.root, job.start))
    source, fitted = fit_by_any_names(open_source(job.source.path, base), form)
    weights = read_weights(source, form, fitted)
    if DigestCache(job.root / ".stockpot").known([job.source.files]) != [job.digest]:
        raise StageFailed(f"{job.source.shown}: was changed while it was imported; run again")
    return weights, fitted.notes
