"""The jobs and the files of the diagnose stage; importing this module imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stockpot.diagnostics.finding import Finding
from stockpot.diagnostics.registry import DIAGNOSTICS
from stockpot.experiment.jobs.job import ExperimentJob
from stockpot.reporting.csv_files import write_finding_csv_files
from stockpot.scoring.key_parts import val_scores_key_parts
from stockpot.soups.preparation.registry import repair_modules
from stockpot.storage.atomic_files import write_text
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.manifests import read_manifest
from stockpot.storage.models import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosticJob(ExperimentJob):
    """One diagnostic of an experiment.

    Attributes:
        name: a built-in diagnostic or `module:function`.
        options: its options, by name; empty for all defaults.
        base: the model that the ingredients were fine-tuned from.
        ingredients: in the order of the sweep.
        soups: soups and tuned soups, in the order of the table.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    base: Model
    ingredients: tuple[Model, ...]
    soups: tuple[Model, ...]

    @property
    def cached(self) -> Path:
        """The cache file of the finding, so that a killed run continues after it."""
        soups = [[model.name, model.digest] for model in self.soups]
        code = code_key(*self.modules)
        own = {"options": dict(self.options)} if self.options else {}
        key = content_key(name=self.name, soups=soups, code=code, **own, **self._common)
        return self.root / ".stockpot" / "findings" / f"{key}.json"

    @property
    def shared(self) -> Path:
        """The cache folder that diagnostics of the same ingredients share."""
        modules = ("stockpot.diagnostics.subset_scores", *repair_modules(self.ingredients))
        code = code_key(*modules, *self.workload.modules)
        return self.root / ".stockpot" / "findings" / content_key(code=code, **self._common)

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of the diagnostic, of what it is given, and of the workload."""
        module = DIAGNOSTICS.module_of(self.name)
        own = (module, "stockpot.diagnostics.context", *repair_modules(self.ingredients))
        return (*own, *self.workload.modules)

    @property
    def _common(self) -> dict[str, Any]:
        """The parts of the key that all diagnostics of these ingredients share."""
        return {
            "seed": self.seed,
            "base": self.base.digest,
            "ingredients": [[model.name, model.digest] for model in self.ingredients],
            "scoring": val_scores_key_parts(self.workload),
        }


def diagnose_models(job: DiagnosticJob, device: str) -> Finding:
    """Run a diagnostic, unless its finding is cached; runs in a worker process."""
    from stockpot.diagnostics.context import DiagnosticContext, LoadedModel

    if job.cached.is_file():
        return Finding.from_json(json.loads(job.cached.read_text(encoding="utf-8")))
    context = DiagnosticContext(
        workload=job.workload.build(),
        device=device,
        seed=job.seed,
        metric=job.metric.removeprefix("val/"),
        base=LoadedModel(job.root, job.base),
        ingredients=tuple(LoadedModel(job.root, model) for model in job.ingredients),
        soups=tuple(LoadedModel(job.root, model) for model in job.soups),
        shared=job.shared,
        spec=job.workload,
    )
    finding = DIAGNOSTICS[job.name](context, **job.options)
    write_text(job.cached, _text_of(finding))
    return finding


def write_finding_files(root: Path, findings: Mapping[str, Finding]) -> list[Path]:
    """Write one JSON file per finding to results/diagnostics, and delete all others.

    Returns:
        These files, and CSV files with the numbers of some.
    """
    folder = root / "results" / "diagnostics"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, finding in findings.items():
        # A colon is not allowed in file names everywhere: my_module:look -> my_module.look.json
        written.append(folder / f"{name.replace(':', '.')}.json")
        write_text(written[-1], _text_of(finding))
    for stale in sorted({*folder.glob("*.json")} - {*written}):
        stale.unlink()
    as_json = {name: finding.to_json() for name, finding in findings.items()}
    return [*written, *write_finding_csv_files(folder, as_json)]


def read_finding_files(root: Path) -> dict[str, dict[str, Any]]:
    """Read the findings of the diagnose stage by name: built-in diagnostics, then the user's.

    Raises:
        InputError: the stage has not run.
    """
    files = [root / path for path in read_manifest(root, "diagnose")["files"]]
    found = {
        ":".join(file.stem.rsplit(".", 1)): json.loads(file.read_text(encoding="utf-8"))
        for file in files
        if file.suffix == ".json"
    }
    order = [*(name for name in DIAGNOSTICS if name in found), *sorted(found)]
    return {name: found[name] for name in order}


def _text_of(finding: Finding) -> str:
    return json.dumps(finding.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"
