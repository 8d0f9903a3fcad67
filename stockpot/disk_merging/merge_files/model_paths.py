"""The paths of the models that a merge file names; no torch, so that errors appear at once."""

from __future__ import annotations

from pathlib import Path

from stockpot.storage.hub import model_path
from stockpot.storage.local_paths import located


def model_and_adapter(folder: Path, name: str) -> tuple[Path, Path | None]:
    """Split `model+adapter`, mergekit's notation, into paths; without `+`, the adapter is None.

    Args:
        folder: of the merge file.
        name: from a merge file; if it exists as a whole, it is not split.

    Raises:
        InputError: there is no such path, nor such a model on the Hugging Face Hub; or there are
            two such paths.
    """
    model, plus, adapter = name.partition("+")
    if not plus or located(folder, name).exists():
        return model_path(folder, name), None
    return model_path(folder, model), model_path(folder, adapter)
