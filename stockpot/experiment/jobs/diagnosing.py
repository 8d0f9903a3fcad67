"""A diagnostic as plain values that a worker process can be sent; imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.registry import DIAGNOSTICS
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.storage.atomic_files import write_text
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.diagnostics.context import DiagnosticContext


@dataclass(frozen=True, slots=True)
class DiagnosticJob:
    """One diagnostic of an experiment.

    Attributes:
        root: the project root.
        workload: whose train and val are looked at.
        name: which diagnostic.
        seed: the experiment's.
        metric: the workload's first metric.
        base: what every ingredient started from.
        ingredients: in the order of the sweep.
        soups: soups and tuned soups, in the order of the table.
    """

    root: Path
    workload: WorkloadSpec
    name: str
    seed: int
    metric: str
    base: Model
    ingredients: tuple[Model, ...]
    soups: tuple[Model, ...]

    @property
    def kept(self) -> Path:
        """Where the finding is kept, so that a run that was killed goes on after it."""
        soups = [[model.name, model.digest] for model in self.soups]
        code = code_key(*self.modules)
        key = content_key(name=self.name, soups=soups, code=code, **self._common)
        return self.root / ".stockpot" / "findings" / f"{key}.json"

    @property
    def shared(self) -> Path:
        """The folder for what diagnostics of the same ingredients keep for each other."""
        code = code_key("stockpot.diagnostics.subset_scores", *self.workload.modules)
        return self.root / ".stockpot" / "findings" / content_key(code=code, **self._common)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that make the finding."""
        return (DIAGNOSTICS.module_of(self.name), *self.workload.modules)

    @property
    def _common(self) -> dict[str, Any]:
        """What all diagnostics of these ingredients depend on."""
        return {
            "seed": self.seed,
            "base": self.base.digest,
            "ingredients": [[model.name, model.digest] for model in self.ingredients],
            "scoring": val_scores_key_parts(self.workload),
        }


def diagnose_models(job: DiagnosticJob, device: str) -> Finding:
    """Make a diagnostic's finding, unless it is kept already; runs in a worker process."""
    if job.kept.is_file():
        return Finding.from_json(json.loads(job.kept.read_text(encoding="utf-8")))
    finding = DIAGNOSTICS[job.name](_context_of(job, device))
    text = json.dumps(finding.to_json(), indent=1, sort_keys=True, allow_nan=False)
    write_text(job.kept, text + "\n")
    return finding


def _context_of(job: DiagnosticJob, device: str) -> DiagnosticContext:
    """Open what a job names; weights and data are read when they are first asked for."""
    from stockpot.diagnostics.context import DiagnosticContext, LoadedModel

    return DiagnosticContext(
        workload=job.workload.build(),
        device=device,
        seed=job.seed,
        metric=job.metric,
        base=LoadedModel(job.root, job.base),
        ingredients=tuple(LoadedModel(job.root, model) for model in job.ingredients),
        soups=tuple(LoadedModel(job.root, model) for model in job.soups),
        shared=job.shared,
        spec=job.workload,
    )
