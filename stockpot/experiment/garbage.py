"""Unused files: checkpoints of older experiments, temporary files of killed runs."""

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
    """Return the unused files of a project, sorted; a run would compute them again.

    In use are the checkpoints of models in manifests and of all champions, with their records,
    adapters, preparations for merge methods and predictions; also the values of random soups, and
    findings.

    Raises:
        InputError: a manifest cannot be read, so that it is not known which files are in use.
    """
    root = project.root
    manifests = [read_manifest(root, s) for s in STAGES if manifest_path(root, s).is_file()]
    models = [model for manifest in manifests for model in models_of(manifest)]
    used = {root / model.path for model in models} | set(champion_files(root))
    adapters = {file for path in used for file in Store.adapter_files(path)}
    used |= {path.with_suffix(".json") for path in used} | adapters
    failed = {failure["key"] for manifest in manifests for failure in manifest.get("failed", [])}
    unused = [path for path in Store(root).files() if path not in used and path.stem not in failed]
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
    predicted = _unused_predictions(project, manifests, digests)
    return sorted({*unused, *partial, *prepared, *predicted, *half_written})


def delete(paths: Sequence[Path]) -> None:
    """Delete files and emptied folders of adapters; missing ones are ignored."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths if path.parent.suffix == ".adapter"}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _unused_predictions(
    project: Project, manifests: Sequence[Mapping[str, Any]], digests: set[str]
) -> list[Path]:
    """Return cached predictions of models that are neither in a manifest nor evaluated."""
    # Averaged predictions have digests of their own, which belong to no weights.
    judged = {entry["digest"] for manifest in manifests for entry in manifest.get("models", [])}
    # The values of models that are merged only to be measured are small: one number per example.
    used = {*digests, *judged, TARGETS, MERGED}
    files = (project.state / "predictions").glob("*.safetensors")
    return [path for path in files if path.name.partition(".")[0] not in used]
