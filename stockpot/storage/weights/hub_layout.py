"""Names of repositories on the Hugging Face Hub, and the layout of its cache on this disk.

Sources: https://huggingface.co/docs/huggingface_hub/guides/manage-cache for the layout,
`huggingface_hub.utils.validate_repo_id` for names.
"""

from __future__ import annotations

import re
from pathlib import Path

_PART = r"[A-Za-z0-9]([\w.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}", re.ASCII)  # organisation/name
_FORBIDDEN = ("..", "--")
_LONGEST = 96  # characters
_MODELS = "models--"
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_repository(name: str) -> bool:
    """Return whether a name has the form `organisation/name` of a repository."""
    return (
        len(name) <= _LONGEST
        and _REPOSITORY.fullmatch(name) is not None
        and not any(part in name for part in _FORBIDDEN)
    )


def snapshot(cache: Path, repo: str, revision: str) -> Path | None:
    """Return the folder of a revision in a cache; None if the revision is unknown there.

    Args:
        cache: of huggingface_hub.
        repo: `organisation/name`.
        revision: a branch, a tag or a commit.
    """
    folder = cache / f"{_MODELS}{repo.replace('/', '--')}"
    reference = folder / "refs" / revision
    is_named = reference.is_file()
    commit = reference.read_text(encoding="utf-8").strip() if is_named else revision
    return folder / "snapshots" / commit if _COMMIT.fullmatch(commit) else None


def cached_name(path: Path) -> str | None:
    """Return the repository that a path in a cache belongs to; None elsewhere."""
    home = _repository_folder(path)
    return None if home is None else home.name.removeprefix(_MODELS).replace("--", "/")


def cache_blobs(path: Path) -> Path | None:
    """Return the folder of the files that a snapshot in a cache links to; None elsewhere."""
    home = _repository_folder(path)
    return None if home is None else home / "blobs"


def _repository_folder(path: Path) -> Path | None:
    """Return the folder `models--organisation--name` of a snapshot, without links."""
    whole, real = path.absolute(), path.resolve()
    for part in (whole, *whole.parents, real, *real.parents):
        if part.parent.name == "snapshots" and part.parent.parent.name.startswith(_MODELS):
            return part.parent.parent.resolve()
    return None
