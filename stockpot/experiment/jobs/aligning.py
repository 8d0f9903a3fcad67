"""The jobs that align imported ingredients: check that this is possible, then permute each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.experiment.jobs.job import ModelJob
from stockpot.experiment.provenance import Provenance
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec

ALIGNING_MODULES = ("stockpot.soups.alignment.workload_nets",)
"""The modules that align ingredients, and check that this is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignJob(ModelJob):
    """One imported ingredient to align, as plain values that can be sent to a worker process.

    Attributes:
        by: what is compared with the first one: weights or activations.
        first: the imported ingredient whose units the others are permuted to match.
        imported: the ingredient as it was imported.
    """

    by: str
    first: Model
    imported: Model

    @property
    def key(self) -> str:
        """Content key: jobs with equal keys make equal weights."""
        return content_key(
            kind=self.kind,
            aligned_by=self.by,
            first=self.first.digest,
            imported=self.imported.digest,
            **self.workload.training_key_parts(),
            code=code_key(*ALIGNING_MODULES, *self.workload.modules),
        )

    @property
    def parents(self) -> Mapping[str, str]:
        """The content keys of both imported ingredients."""
        return {"first": self.first.key, "imported": self.imported.key}

    @property
    def settings(self) -> Mapping[str, float | str]:
        """The hyperparameters that the checkpoint came with."""
        found: Mapping[str, float | str] = self.imported.details.get("hyperparameters", {})
        return found

    def find(self) -> Model | None:
        """Return the model if the store has it, with the present path of its source."""
        model = Store(self.root).find(self.kind, self.key, self.name)
        return model and self._with_source(model)

    def work(self, device: str) -> Model:
        """Permute the units of the ingredient, and save it."""
        from stockpot.soups.alignment.workload_nets import Aligner
        from stockpot.storage.checkpoints import load_tensors, verify

        first, imported = (
            load_tensors(verify(self.root, model.checkpoint))
            for model in (self.first, self.imported)
        )
        weights = Aligner(self.workload.build(), device).align(first, imported, self.by)
        details: dict[str, Any] = {
            **{name: value for name, value in self.imported.details.items() if name != "source"},
            "aligned": {
                "by": self.by,
                "first": self.first.digest,
                "imported": self.imported.digest,
            },
        }
        store = Store(self.root)
        return self._with_source(store.save(self.kind, self.key, self.name, weights, details))

    def provenance(self, model: Model) -> Provenance:
        """Return what is needed to align the ingredient again."""
        both = ((one.name, one.checkpoint) for one in (self.first, self.imported))
        return Provenance(model, self.workload, ingredients=tuple(both))

    def _with_source(self, model: Model) -> Model:
        source = self.imported.details.get("source", "")
        return replace(model, details={**model.details, "source": source})


def align_jobs(
    root: Path, workload: WorkloadSpec, by: str, models: Sequence[Model]
) -> list[AlignJob]:
    """Return the jobs that align imported ingredients to the first of them."""
    return [
        AlignJob(
            root=root,
            workload=workload,
            name=model.name,
            kind=model.kind,
            by=by,
            first=models[0],
            imported=model,
        )
        for model in models[1:]
    ]


def aligned_again(recorded: Provenance, place: Path) -> AlignJob:
    """Return the job that aligns a recorded ingredient again in a folder."""
    model = recorded.model
    first, imported = (
        Model(name, model.kind, one.key, one.digest, one.path, 0, 0)
        for name, one in recorded.ingredients
    )
    return AlignJob(
        root=place,
        workload=recorded.workload,
        name=model.name,
        kind=model.kind,
        by=model.details["aligned"]["by"],
        first=first,
        imported=imported,
    )


def check_alignment(workload: WorkloadSpec, by: str, device: str) -> None:
    """Check that ingredients can be aligned and their soups repaired; runs in a worker process.

    Raises:
        InputError: they cannot.
    """
    from stockpot.soups.alignment.workload_nets import check_alignable

    try:
        check_alignable(workload.build(), by, device)
    except InputError as error:
        raise InputError(
            f"sweep.align: workload {workload.name!r}: its nets cannot be aligned: {error}; "
            "remove align, and merge only models that share a base"
        ) from error
