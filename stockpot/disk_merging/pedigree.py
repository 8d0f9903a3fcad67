"""How a merged model was made, as it stands in the header of its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.errors import InputError

PEDIGREE = "stockpot.merge"  # the name of the pedigree in a header


def pedigree_metadata(pedigree: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a header that tells of a pedigree."""
    return {"format": "pt", PEDIGREE: json.dumps(pedigree, sort_keys=True)}


def read_pedigree(path: Path) -> dict[str, Any]:
    """Read how a merged model was made, from the header of its weights.

    Raises:
        InputError: it was not made by `stockpot merge`.
    """
    from stockpot.storage.weights.sources import open_files

    text = open_files(path).metadata.get(PEDIGREE)
    if text is None:
        raise InputError(f"{path}: its header has no pedigree; `stockpot merge` writes one")
    pedigree: dict[str, Any] = json.loads(text)
    return pedigree


def recorded_models(pedigree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the models of a pedigree as a merge file has them."""
    return [{"path": m["path"], "coefficient": m["coefficient"]} for m in pedigree["models"]]


def check_unchanged(path: Path, digest: str, recorded: str) -> None:
    """Refuse an input that is not what it was.

    Raises:
        InputError: its digest is another.
    """
    if digest != recorded:
        raise InputError(
            f"{path}: digest is {digest[:12]}, the pedigree says {recorded[:12]}; it is not the "
            "model that was merged"
        )
