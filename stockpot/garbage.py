"""Files that nothing names any more: checkpoints of older experiments, leftovers of killed runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stockpot.manifests import STAGES, manifest_path, models_of, read_manifest
from stockpot.project import Project
from stockpot.store import Store


def find_garbage(project: Project) -> list[Path]:
    """List what can be deleted: it is rebuilt if an experiment ever needs it again, sorted.

    Kept are the checkpoints that a manifest in results/ names, their records, and what was
    prepared of them for merge methods.

    Raises:
        InputError: a manifest cannot be read; nothing is garbage until it can.
    """
    root = project.root
    manifests = [read_manifest(root, s) for s in STAGES if manifest_path(root, s).is_file()]
    models = [model for manifest in manifests for model in models_of(manifest)]
    named = {root / model.path for model in models}
    named |= {path.with_suffix(".json") for path in named}
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
    return sorted({*unnamed, *partial, *prepared, *half_written})


def delete(paths: Sequence[Path]) -> None:
    """Delete files; one that is gone already is fine."""
    for path in paths:
        path.unlink(missing_ok=True)
