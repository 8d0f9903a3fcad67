"""Unused files: checkpoints of older experiments, temporary files of killed runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from stockpot.experiment.round_files import LOST
from stockpot.experiment.sequence import MANIFEST
from stockpot.experiment.stages import STAGES
from stockpot.scoring.key_parts import PASSES
from stockpot.scoring.predictions import MERGED, TARGETS
from stockpot.storage.manifests import existing_manifests, made_models
from stockpot.storage.project import Project
from stockpot.storage.store import Store, champion_files

_KEPT_BYTES = 2**28  # of passes: of some thousand candidates


def find_garbage(project: Project) -> list[Path]:
    """Return the unused files of a project, sorted; a run would compute them again.

    In use are the checkpoints of models in manifests and of all champions, with their records,
    adapters, preparations for merge methods and predictions; also the values of random soups, and
    findings. Of passes, the newest are kept, up to a quarter of a GiB.

    Raises:
        InputError: a manifest cannot be read, so that it is not known which files are in use.
    """
    root, state = project.root, project.state
    manifests = existing_manifests(root, (*STAGES, MANIFEST))
    models = [model for manifest in manifests for model in made_models(manifest)]
    used = {root / model.path for model in models} | set(champion_files(root))
    adapters = {file for path in used for file in Store.adapter_files(path)}
    used |= {path.with_suffix(".json") for path in used} | adapters
    failed = {failure["key"] for manifest in manifests for failure in manifest.get("failed", [])}
    digests = {model.digest for model in models}
    # Averaged predictions have digests of their own, which belong to no weights. The values of
    # models that are merged only to be measured are small: one number per example.
    judged = {entry["digest"] for manifest in manifests for entry in manifest.get("models", [])}
    unused = [path for path in Store(root).files() if path not in used and path.stem not in failed]
    unused += [path for path in (state / "partial").glob("*") if path.is_file()]
    rounds = (path for path in (state / "rounds").glob("*/*") if path.is_file())
    unused += [path for path in rounds if path.name != LOST]  # without it a run differs
    unused += _caches(state / "preparations", digests)
    unused += _caches(state / "predictions", digests | judged | {TARGETS, MERGED})
    unused += _oldest(state / PASSES, _KEPT_BYTES)
    unused += [path for folder in (project.results, state) for path in folder.rglob("*.tmp")]
    return sorted({*unused})


def delete(paths: Sequence[Path]) -> None:
    """Delete files and emptied folders of adapters; missing ones are ignored."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths if path.parent.suffix == ".adapter"}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _caches(folder: Path, used: set[str]) -> list[Path]:
    """Return the cached files of models with other digests than these."""
    files = folder.glob("*.safetensors")
    return [path for path in files if path.name.partition(".")[0] not in used]


def _oldest(folder: Path, kept_bytes: int) -> list[Path]:
    """Return the oldest files of a folder, without which it has at most this size."""
    states = [(path.stat(), path) for path in folder.glob("*.safetensors")]
    newest_first = sorted(states, key=lambda each: (-each[0].st_mtime_ns, each[1]))
    sizes = accumulate(state.st_size for state, _ in newest_first)
    return [path for (_, path), size in zip(newest_first, sizes, strict=True) if size > kept_bytes]
