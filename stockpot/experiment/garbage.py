"""Files that nothing names any more: checkpoints of older experiments, leftovers of killed runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.experiment.stages import STAGES
from stockpot.scoring.predictions import MERGED, TARGETS
from stockpot.storage.manifests import manifest_path, models_of, read_manifest
from stockpot.storage.project import Project
from stockpot.storage.store import Store, champion_files


def find_garbage(project: Project) -> list[Path]:
    """List what can be deleted: it is rebuilt if an experiment ever needs it again, sorted.

    Kept are the checkpoints that a manifest in results/ names or that have been champion, their
    records and adapters, what was prepared of them for merge methods, and their predictions; also
    the values of random soups, and findings.

    Raises:
        InputError: a manifest cannot be read; nothing is garbage until it can.
    """
    root = project.root
    manifests = [read_manifest(root, s) for s in STAGES if manifest_path(root, s).is_file()]
    models = [model for manifest in manifests for model in models_of(manifest)]
    named = {root / model.path for model in models} | set(champion_files(root))
    adapters = {file for path in named for file in Store.adapter_files(path)}
    named |= {path.with_suffix(".json") for path in named} | adapters
    failed = {failure["key"] for manifest in manifests for failure in manifest.get("failed", [])}
    unnamed = [
        path for path in Store(root).files() if path not in named and path.stem not in failed
    ]
    partial = [path for path in (project.state / "partial").glob("*") if path.is_file()]
    digests = {model.digest for model in models}
    prepared = [
        path
        for path in (project.state / "preparations").glob("*.safetensors")
        if path.name.partition(".")[0] not in digests
    ]
    half_written = [
        path for folder in (project.results, project.state) for path in folder.rglob("*.tmp")
    ]
    predicted = _unnamed_predictions(project, manifests, digests)
    return sorted({*unnamed, *partial, *prepared, *predicted, *half_written})


def delete(paths: Sequence[Path]) -> None:
    """Delete files, and the folders of adapters; one that is gone already is fine."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths if path.parent.suffix == ".adapter"}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _unnamed_predictions(
    project: Project, manifests: Sequence[Mapping[str, Any]], digests: set[str]
) -> list[Path]:
    """List kept predictions of what is neither one of these models nor was judged."""
    # Averaged predictions are judged under a digest of their own, which no weights have.
    judged = {entry["digest"] for manifest in manifests for entry in manifest.get("models", [])}
    # Values of models merged only to be measured are numbers by example, not outputs: small.
    kept = {*digests, *judged, TARGETS, MERGED}
    files = (project.state / "predictions").glob("*.safetensors")
    return [path for path in files if path.name.partition(".")[0] not in kept]
