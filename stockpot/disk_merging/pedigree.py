"""The pedigree of a merged model: all that its weights depend on, stored in their header."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from stockpot.disk_merging.merge_file import RULES, MergeFile
from stockpot.errors import InputError

PEDIGREE = "stockpot.merge"  # the key of the pedigree in a header's metadata

_FIELDS = ("method", "options", "seed", "dtype", "output", "rank", *RULES)


class Input(Protocol):
    """A model or adapter that is merged."""

    @property
    def path(self) -> Path:
        """The file or folder."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its files, hex."""
        ...


def pedigree_of(
    file: MergeFile, digests: Sequence[str], base_digest: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return the pedigree of a merge.

    Args:
        file: how the models are merged.
        digests: one per model, hex.
        base_digest: of the base; None without a base.
        more: further fields.
    """
    return {
        "version": version("stockpot"),
        "method": file.method,
        "options": file.options,
        "seed": file.seed,
        "dtype": file.dtype,
        "models": [
            {"path": entry.path, "digest": digest, "coefficient": entry.coefficient}
            for entry, digest in zip(file.entries, digests, strict=True)
        ],
        "base": None if file.base is None else {"path": file.base, "digest": base_digest},
        **more,
    }


def pedigree_metadata(pedigree: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a header with this pedigree."""
    return {"format": "pt", PEDIGREE: json.dumps(pedigree, sort_keys=True)}


def read_pedigree(path: Path) -> dict[str, Any]:
    """Read the pedigree of a merged model from the header of its weights.

    Raises:
        InputError: the model was not made by `stockpot merge`.
    """
    from stockpot.storage.weights.sources import open_files

    text = open_files(path).metadata.get(PEDIGREE)
    if text is None:
        raise InputError(f"{path}: its header has no pedigree; `stockpot merge` writes one")
    pedigree: dict[str, Any] = json.loads(text)
    return pedigree


def recorded_file(pedigree: Mapping[str, Any]) -> MergeFile:
    """Return the merge file that a pedigree records."""
    base = pedigree["base"]
    models = [{"path": m["path"], "coefficient": m["coefficient"]} for m in pedigree["models"]]
    return MergeFile.model_validate(
        {field: pedigree[field] for field in _FIELDS if field in pedigree}
        | {"models": None if "layers" in pedigree else models, "base": base and base["path"]}
    )


def check_unchanged(inputs: Iterable[Input], pedigree: Mapping[str, Any]) -> None:
    """Refuse inputs that differ from those that were merged.

    Args:
        inputs: the models, then the base if there is one.
        pedigree: of the merged model.

    Raises:
        InputError: an input has a different digest.
    """
    base = pedigree["base"]
    records = [*pedigree["models"], *([base] if base else [])]
    for each, record in zip(inputs, records, strict=True):
        if each.digest != record["digest"]:
            raise InputError(
                f"{each.path}: digest is {each.digest[:12]}, the pedigree records "
                f"{record['digest'][:12]}; it is not the model that was merged"
            )
