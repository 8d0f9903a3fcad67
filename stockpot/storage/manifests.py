"""The manifests `results/*.json`: the small, reproducible record of each stage's results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.digests import file_digest
from stockpot.storage.models import Model

# The fields that list models.
_MODEL_LISTS = ("ingredients", "soups", "tuned")


def manifest_path(root: Path, stage: str) -> Path:
    """Return the path of a stage's manifest."""
    return root / "results" / f"{'evaluation' if stage == 'evaluate' else stage}.json"


def read_manifest(root: Path, stage: str) -> dict[str, Any]:
    """Read a stage's manifest.

    Raises:
        InputError: the stage has not run, or the file is damaged.
    """
    path = manifest_path(root, stage)
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"results/{path.name}: missing; run `stockpot {stage}` first, or `stockpot run` for all"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"results/{path.name}: not a complete manifest ({error}); delete it and run again"
        ) from error
    return manifest


def existing_manifests(root: Path, stages: Iterable[str]) -> list[dict[str, Any]]:
    """Read the manifests of those stages that have run.

    Raises:
        InputError: a file is damaged.
    """
    return [read_manifest(root, stage) for stage in stages if manifest_path(root, stage).is_file()]


def write_manifest(root: Path, stage: str, manifest: Mapping[str, Any]) -> None:
    """Write a stage's manifest; equal content gives equal bytes."""
    text = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False)
    write_text(manifest_path(root, stage), text + "\n")


def models_of(manifest: Mapping[str, Any]) -> list[Model]:
    """List the models of a manifest, the base first."""
    base = [manifest["base"]] if "base" in manifest else []
    listed = [entry for name in _MODEL_LISTS for entry in manifest.get(name, [])]
    return [Model.from_json(entry) for entry in [*base, *listed]]


def made_models(manifest: Mapping[str, Any]) -> list[Model]:
    """List all models that a stage has made: also those of a sweep before its ingredients."""
    phases = manifest.get("phases", [])
    in_phases = [entry for phase in phases for entry in (*phase["models"], phase["average"])]
    before = [*manifest.get("reference", []), *in_phases, *manifest.get("imported", [])]
    return [*models_of(manifest), *map(Model.from_json, before)]


def digests_of(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the digests of files by their path relative to the root, as manifests list them."""
    return {path.relative_to(root).as_posix(): file_digest(path) for path in sorted(paths)}


def outputs_exist(root: Path, manifest: Mapping[str, Any]) -> bool:
    """Return whether all files of a manifest are on disk: weights by size, others by digest.

    The digest of weights is verified when they are read.
    """
    weights = [(root / model.path, model.bytes) for model in made_models(manifest)]
    return all(path.is_file() and path.stat().st_size == size for path, size in weights) and all(
        (root / path).is_file() and file_digest(root / path) == digest
        for path, digest in manifest.get("files", {}).items()
    )
