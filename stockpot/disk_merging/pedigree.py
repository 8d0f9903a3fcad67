"""The pedigree of a merged model: all that its weights depend on, stored in their header.

A merge can be rebuilt from it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stockpot.disk_merging.merge_files.merge_file import MergeFile, NestedEntry
from stockpot.disk_merging.recorded_file import recorded_file
from stockpot.disk_merging.streaming.devices import CPU, Device
from stockpot.errors import InputError, at_place
from stockpot.storage.digests import (
    Algorithm,
    algorithm_of,
    digest_in_background,
    shortened,
    text_digest,
)
from stockpot.storage.weights.places import check_place

if TYPE_CHECKING:
    from stockpot.storage.weights.adapters import Adapter
    from stockpot.storage.weights.sources import Source

_OTHER_TOKENIZERS = (
    "the tokenizers of its models have changed since the merge, so their rows would be those of "
    "other tokens; restore their files"
)

DigestOf = Callable[["Source"], str]

PEDIGREE = "stockpot.merge"  # the key of the pedigree in a header's metadata


def pedigree_of(
    file: MergeFile,
    digests: Sequence[str],
    base_digest: str | None = None,
    nested: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    **more: Any,
) -> dict[str, Any]:
    """Return the pedigree of a merge.

    Args:
        file: how the models are merged.
        digests: one per model.
        base_digest: of the base; None without a base.
        nested: the pedigrees of merges within it, by the keys of their entries.
        more: further fields.
    """
    base = file.base_entry

    def origin(entry: NestedEntry) -> dict[str, Any]:
        return {"path": entry.path} if entry.merge is None else {"merge": nested[entry.key]}

    return {
        "version": version("stockpot"),
        "method": file.method,
        "options": file.options,
        "seed": file.seed,
        "dtype": file.dtype,
        "models": [
            {**origin(entry), "digest": digest, "coefficient": entry.coefficient}
            | ({"options": entry.options} if entry.options else {})
            | ({"role": entry.role} if entry.role else {})
            for entry, digest in zip(file.entries, digests, strict=True)
        ],
        "base": None if base is None else {**origin(base), "digest": base_digest},
        **more,
    }


def digest_of_pedigree(pedigree: Mapping[str, Any], algorithm: Algorithm) -> str:
    """Return a digest of all that the weights of a merge depend on; not of the paths."""
    records = [*pedigree["models"], *([pedigree["base"]] if pedigree["base"] else [])]
    digest_of = {each["path"]: each["digest"] for each in records if "path" in each}

    def without_paths(content: Any) -> Any:
        if isinstance(content, dict):
            return {
                name: digest_of.get(value, value) if name == "path" else without_paths(value)
                for name, value in content.items()
                # Of a merge within it, the digest suffices.
                if name != "version" and not (name == "merge" and "digest" in content)
            }
        return [without_paths(one) for one in content] if isinstance(content, list) else content

    return text_digest(json.dumps(without_paths(pedigree), sort_keys=True), algorithm)


def without_device(pedigree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pedigree without the device on which it was merged."""
    return {name: value for name, value in pedigree.items() if name != "device"}


def listed_models(pedigree: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the records of the models, the base and those of merges within, with their places.

    Args:
        pedigree: of the merge.
        within: the place of the merge in another one, with a dot; empty if it is none.
    """
    base = [("base", pedigree["base"])] if pedigree["base"] else []
    models = ((each.get("role", str(n)), each) for n, each in enumerate(pedigree["models"], 1))
    for name, each in [*models, *base]:
        yield f"{within}{name}", each
        if "merge" in each:
            yield from listed_models(each["merge"], f"{within}{name}.")


def pedigree_metadata(pedigree: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a header with this pedigree."""
    return {"format": "pt", PEDIGREE: json.dumps(pedigree, sort_keys=True)}


def read_pedigree(path: Path) -> dict[str, Any]:
    """Read the pedigree of a merged model from the header of its weights.

    Raises:
        InputError: the model was not made by `stockpot merge`, or the pedigree is damaged.
    """
    from stockpot.storage.weights.sources import open_files

    text = open_files(path).metadata.get(PEDIGREE)
    if text is None:
        raise InputError(
            f"{path}: its header has no pedigree, which stockpot writes into what it merges"
        )
    try:
        pedigree: dict[str, Any] = json.loads(text)
        recorded_file(pedigree)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: its pedigree is damaged, or of another version of stockpot ({reason})"
        ) from error
    return pedigree


def check_digests(
    file: MergeFile,
    inputs: Sequence[Source | Adapter],
    nested: Mapping[str, Any],
    pedigree: Mapping[str, Any],
) -> None:
    """Check that the models are those that were merged.

    Args:
        file: how they are merged.
        inputs: the models, then the base if there is one.
        nested: merges within it, with `inputs` and `nested` of their own, by key.
        pedigree: of the merge.

    Raises:
        InputError: a model has changed.
    """
    base = pedigree["base"]
    entries = [*file.entries, *([file.base_entry] if file.base_entry else [])]
    records = [*pedigree["models"], *([base] if base else [])]
    algorithm = algorithm_of(records[0]["digest"])
    for entry, each, record in zip(entries, inputs, records, strict=True):
        if entry.merge is not None:
            inner = nested[entry.key]
            check_digests(entry.merge, inner.inputs, inner.nested, record["merge"])
            if inner.digest_by(algorithm) != record["digest"]:
                raise InputError(f"{inner.path}: {_OTHER_TOKENIZERS}")
        elif (digest := each.digest_by(algorithm)) != record["digest"]:
            raise InputError(
                f"{each.path}: digest is {shortened(digest)}, the pedigree records "
                f"{shortened(record['digest'])}; it is not the model that was merged"
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
        within: where in a merge file it is, if it is part of another merge; else empty.
        file_name: of the merge file, for errors; empty if there is none.
        device: on which weights are merged.
        recorded_device: in the pedigree, if it is not `device`; "" for the CPU.
    """

    file: MergeFile
    folder: Path
    place: Path
    force: bool = False
    algorithm: Algorithm = "blake3"
    within: str = ""
    file_name: str = ""
    device: Device = CPU
    recorded_device: str | None = None
    merges_on_devices: ClassVar[bool] = True  # besides the CPU

    def check(self) -> None:
        """Refuse a merge that is not possible, before any weight is read.

        Raises:
            InputError: with the merge file and the reason, or with the place.
        """
        try:
            protected = self.protected
        except InputError as error:
            raise at_place(self.file_name, error) from error
        check_place(self.place, protected)
        try:
            self.check_models()
        except InputError as error:
            raise at_place(self.file_name, error) from error

    @abstractmethod
    def check_models(self) -> None:
        """Refuse models that cannot be merged, as `check` does."""

    @property
    def protected(self) -> list[Path] | None:
        """The paths that must survive if a model is replaced; None if none may be."""
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
        """The key of the tokenizers' part in the weights, hex; None if they have none."""
        return None

    @property
    def nested(self) -> Mapping[str, Any]:
        """The merges within it, by the keys of their entries."""
        return {}

    @classmethod
    def rebuilding(cls, path: Path, place: Path, folder: Path, device: Device = CPU) -> Self:
        """Return the merge that made a model, to rebuild it.

        Args:
            path: the merged model.
            place: the path of the rebuilt model.
            folder: the folder to which the paths of its inputs are relative.
            device: on which it is rebuilt.

        Raises:
            InputError: an input is missing or has changed.
        """
        pedigree = read_pedigree(path)
        algorithm = algorithm_of(pedigree["models"][0]["digest"])
        file = recorded_file(pedigree)
        merge = cls(
            file,
            folder,
            place,
            algorithm=algorithm,
            device=device,
            recorded_device=pedigree.get("device", ""),
        )
        try:
            files = merge.files
        except InputError as error:
            raise InputError(
                f"{error}; paths in the pedigree are relative to {folder.absolute()}, or to the "
                "folder that --inputs names"
            ) from error
        digest_in_background(files, algorithm)
        check_digests(merge.file, merge.inputs, merge.nested, pedigree)
        if merge.vocabulary_digest != pedigree.get("vocabulary"):
            raise InputError(f"{path}: {_OTHER_TOKENIZERS}")
        return merge
