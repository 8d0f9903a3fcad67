"""Files of tensors with a digest of their values; a damaged one is as good as none.

Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.storage.checkpoints import load_tensors, read_metadata, save_checkpoint

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with a digest of their values; half precision is stored as float32."""
    wide = {name: _at_least_float32(tensor.cpu()) for name, tensor in tensors.items()}
    save_checkpoint(path, wide, {"sha256": _digest(wide)})


def read_intact(path: Path) -> dict[str, Tensor] | None:
    """Return the tensors of a file; None if it is missing or damaged."""
    try:
        tensors = load_tensors(path)
        is_intact = read_metadata(path).get("sha256") == _digest(tensors)
    except InputError:
        return None
    return tensors if is_intact else None


def _at_least_float32(tensor: Tensor) -> Tensor:
    is_narrow = tensor.is_floating_point() and tensor.itemsize < 4
    return tensor.float() if is_narrow else tensor


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
