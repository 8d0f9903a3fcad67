"""Models in a shared store: a record by content key, which names the objects of its files.

A model is in the store when its record is, which is written last and only once: of machines that
make the same model at the same moment, the first decides, and the others use its files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.digests import file_digest
from stockpot.storage.remote.files import SharedFiles
from stockpot.storage.remote.objects import Damaged, Objects
from stockpot.storage.remote.retries import retried

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WEIGHTS = ".safetensors"
_SUFFIXES = (_WEIGHTS, ".adapter/adapter_model.safetensors", ".adapter/adapter_config.json")


@dataclass(frozen=True, slots=True)
class SharedRecord:
    """All that a shared store knows of a model.

    Attributes:
        record: as next to local weights, or with the reason why the model cannot be made.
        files: the digests of its files, by what follows the key in their names.
    """

    record: Mapping[str, Any]
    files: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """Return the form in the store, with a checksum."""
        content = {"record": dict(self.record), "files": dict(self.files)}
        checked = {**content, "sha256": _checksum(content)}
        return (json.dumps(checked, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> SharedRecord:
        """Read the form in the store.

        Raises:
            Damaged: it has another form, or another checksum.
        """
        try:
            found = json.loads(content)
            checksum = found.pop("sha256")
            record, files = dict(found["record"]), dict(found["files"])
            is_whole = checksum == _checksum(found) and (
                "failed" in record or record["digest"] == files[_WEIGHTS]
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Damaged("no record of a model") from error
        is_known = set(files) <= set(_SUFFIXES) and all(map(_DIGEST.fullmatch, files.values()))
        if not is_whole or not is_known:
            raise Damaged("no record of a model, or damaged")
        return cls(record, files)


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class SharedModels:
    """The models of a shared store, seen from a project whose checkpoints are copies of them.

    Local models are named by the path of their weights, `checkpoints/<folder>/<key>.safetensors`;
    a record `<key>.json` is next to them.
    """

    def __init__(self, files: SharedFiles, locks: Path) -> None:
        """Read and write models of a store; `locks` is a local folder."""
        self._files = files
        self._objects = Objects(files, locks)

    def failure(self, weights: Path) -> str | None:
        """Return the recorded reason why a model cannot be made; None if there is none."""
        found = self._find(weights)
        return None if found is None else found.record.get("failed")

    def fetch(self, weights: Path) -> bool:
        """Download a model that is not here; return whether the store has it, whole.

        A damaged one is named in a warning: it counts as missing, and is rebuilt.

        Raises:
            InputError: the disk is full, or reading is not permitted.
            StageFailed: the store does not answer.
        """
        found = self._find(weights)
        if found is None or not found.files:
            return False
        try:
            self._bring(weights, found)
        except Damaged as error:
            _warn(weights, str(error))
            return False
        return True

    def fetch_weights(self, digest: str, weights: Path) -> None:
        """Download weights that a job names by their digest, with the model's other files.

        Raises:
            InputError: the store does not have them whole, or see `fetch`.
            StageFailed: the store does not answer.
        """
        found = self._find(weights)
        try:
            if found is not None and found.files.get(_WEIGHTS) == digest:
                self._bring(weights, found)
            else:
                self._objects.fetch(digest, weights)
        except Damaged as error:
            raise InputError(
                f"{weights.name}: not here, and in the store {error}; run `stockpot run`, which "
                "makes it again"
            ) from error

    def share(self, weights: Path, files: Sequence[Path], *, is_new: bool = False) -> None:
        """Upload a local model unless the store has it; if its files differ, fetch those.

        Args:
            weights: of the model.
            files: all of its files, with the weights.
            is_new: whether it was just made, though the store may have a record of it. Then
                another machine was faster, or its files there are damaged, so they are read.

        Raises:
            InputError: the disk is full, or a request is not permitted.
            StageFailed: the store does not answer.
        """
        ours = _local_record(weights, files)
        found = self._find(weights)
        if found is None:
            self._upload(weights, ours)
            found = self._create(weights, ours)
            if found is ours:
                return
        if found.files == ours.files:
            if is_new and not self._are_intact(found):
                self._upload(weights, ours, replace=True)
        elif self._are_intact(found):
            self._bring(weights, found)
        else:
            self._upload(weights, ours)
            self._write(weights, ours)

    def share_failure(self, weights: Path, reason: str) -> None:
        """Record why a model cannot be made, unless there is a record of it."""
        if self._find(weights) is None:
            self._create(weights, SharedRecord({"failed": reason}, {}))

    def keys(self, folder: str) -> set[str]:
        """Return the content keys of all models with a record, of one folder of checkpoints."""
        place = f"models/{folder}"
        names = retried(self._files.place(place), "listed", lambda: self._files.names(place))
        return {name.removesuffix(".json") for name in names}

    def _find(self, weights: Path) -> SharedRecord | None:
        """Read the record of a model; None without one, or with a damaged one."""
        name = _record_name(weights)
        try:
            content = retried(self._files.place(name), "read", lambda: self._files.read(name))
            return SharedRecord.from_bytes(content)
        except FileNotFoundError:
            return None
        except Damaged as error:
            _warn(weights, f"{self._files.place(name)} is {error}")
            return None

    def _are_intact(self, found: SharedRecord) -> bool:
        """Whether a record has files, all whole."""
        return bool(found.files) and all(map(self._objects.is_intact, found.files.values()))

    def _bring(self, weights: Path, found: SharedRecord) -> None:
        """Download the files of a model; its local record disappears first and comes last."""
        local = weights.with_suffix(".json")
        local.unlink(missing_ok=True)
        for suffix, digest in found.files.items():
            self._objects.fetch(digest, _file(weights, suffix))
        write_text(local, json.dumps(found.record, indent=2, sort_keys=True) + "\n")

    def _upload(self, weights: Path, ours: SharedRecord, *, replace: bool = False) -> None:
        for suffix, digest in ours.files.items():
            self._objects.put(_file(weights, suffix), digest, replace=replace)

    def _create(self, weights: Path, ours: SharedRecord) -> SharedRecord:
        """Write the record of a model; return the one that is there, if another was faster."""
        name, content = _record_name(weights), ours.to_bytes()
        try:
            retried(self._files.place(name), "written", lambda: self._files.create(name, content))
        except FileExistsError:  # of another machine, or of a try whose answer was lost
            if found := self._find(weights):
                return found
            self._write(weights, ours)  # it was damaged
        return ours

    def _write(self, weights: Path, ours: SharedRecord) -> None:
        """Replace a record that is damaged, or whose files are."""
        name, content = _record_name(weights), ours.to_bytes()
        retried(self._files.place(name), "written", lambda: self._files.write(name, content))


def _local_record(weights: Path, files: Sequence[Path]) -> SharedRecord:
    record = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    others = {_suffix(weights, file): file_digest(file) for file in files if file != weights}
    return SharedRecord(record, {_suffix(weights, weights): record["digest"], **others})


def _record_name(weights: Path) -> str:
    return f"models/{weights.parent.name}/{weights.stem}.json"


def _file(weights: Path, suffix: str) -> Path:
    return weights.parent / f"{weights.stem}{suffix}"


def _suffix(weights: Path, file: Path) -> str:
    return file.relative_to(weights.parent).as_posix().removeprefix(weights.stem)


def _warn(weights: Path, reason: str) -> None:
    logging.getLogger(__name__).warning(
        "store: %s; %s/%s is rebuilt", reason, weights.parent.name, weights.stem
    )
