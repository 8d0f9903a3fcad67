"""The pedigree of a merged model: all that its weights depend on, stored in their header.

A merge can be rebuilt from it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stockpot.disk_merging.merge_file import RULES, MergeFile
from stockpot.errors import InputError
from stockpot.storage.digests import Algorithm, algorithm_of, digest_in_background, shortened

if TYPE_CHECKING:
    from stockpot.storage.weights.adapters import Adapter
    from stockpot.storage.weights.sources import Source

PEDIGREE = "stockpot.merge"  # the key of the pedigree in a header's metadata

_FIELDS = (
    *("method", "options", "seed", "dtype", "output", "rank", "core_space", "bits", "config_from"),
    *RULES,
)


def pedigree_of(
    file: MergeFile, digests: Sequence[str], base_digest: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return the pedigree of a merge.

    Args:
        file: how the models are merged.
        digests: one per model.
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
            | ({"options": entry.options} if entry.options else {})
            | ({"role": entry.role} if entry.role else {})
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


def _recorded_file(pedigree: Mapping[str, Any]) -> MergeFile:
    """Return the merge file that a pedigree records."""
    base = pedigree["base"]
    models = [
        {name: value for name, value in model.items() if name != "digest"}
        for model in pedigree["models"]
    ]
    return MergeFile.model_validate(
        {field: pedigree[field] for field in _FIELDS if field in pedigree}
        | {"models": None if "layers" in pedigree else models, "base": base and base["path"]}
    )


@dataclass(frozen=True)
class RecordedMerge(ABC):
    """One merge on disk, which its pedigree records.

    Attributes:
        file: how the models are merged.
        folder: the folder to which paths in it are relative.
        place: the path of the merged model.
        force: whether a model that an earlier merge has written to that place is replaced.
        algorithm: of the digests of the models; those of a merge that is rebuilt are compared.
    """

    file: MergeFile
    folder: Path
    place: Path
    force: bool = False
    algorithm: Algorithm = "blake3"

    @property
    def protected(self) -> list[Path] | None:
        """What must survive if a model is replaced; None if none may be."""
        return [self.folder, *self.files] if self.force else None

    @property
    @abstractmethod
    def inputs(self) -> Sequence[Source | Adapter]:
        """The models or adapters, opened; then the base if there is one."""

    @property
    @abstractmethod
    def files(self) -> list[Path]:
        """The files with their weights."""

    @property
    def vocabulary_digest(self) -> str | None:
        """What the weights depend on of the models' tokenizers, hex; None for nothing."""
        return None

    @classmethod
    def rebuilding(cls, path: Path, place: Path, folder: Path) -> Self:
        """Return the merge that made a model, to rebuild it.

        Args:
            path: the merged model.
            place: the path of the rebuilt model.
            folder: the folder to which the paths of its inputs are relative.

        Raises:
            InputError: an input is missing or has changed.
        """
        pedigree = read_pedigree(path)
        base = pedigree["base"]
        records = [*pedigree["models"], *([base] if base else [])]
        algorithm = algorithm_of(records[0]["digest"])
        merge = cls(_recorded_file(pedigree), folder, place, algorithm=algorithm)
        digest_in_background(merge.files, algorithm)
        for each, record in zip(merge.inputs, records, strict=True):
            digest = each.digest_by(algorithm)
            if digest != record["digest"]:
                raise InputError(
                    f"{each.path}: digest is {shortened(digest)}, the pedigree records "
                    f"{shortened(record['digest'])}; it is not the model that was merged"
                )
        if merge.vocabulary_digest != pedigree.get("vocabulary"):
            raise InputError(
                f"{path}: the tokenizers of its models have changed since the merge, so their rows "
                "would be those of other tokens; restore their files"
            )
        return merge
