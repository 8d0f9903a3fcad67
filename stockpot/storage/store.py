"""The checkpoint store: weights by content key, each model made once.

A model has two files, `checkpoints/<folder>/<key>.safetensors` and a record `<key>.json`, which is
written last: without it, the model does not exist. A record may also hold the reason why a model
cannot be made, so that no later run tries again. An adapter that was merged into the weights is a
folder in PEFT's format next to them, `<key>.adapter`, written before the record.

A project may share its models with other machines through a store at an address (`remote`). Then
these files are copies: a model that is not here is fetched, and one that is made is uploaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.storage.atomic_files import write_text
from stockpot.storage.checkpoints import save_checkpoint
from stockpot.storage.density import density_of
from stockpot.storage.locks import file_lock
from stockpot.storage.models import Model
from stockpot.storage.remote.opening import store_of

if TYPE_CHECKING:
    from torch import Tensor

_CHAMPIONS = ".stockpot/champions.json"
_ADAPTER, _ADAPTER_FILES = ".adapter", ("adapter_model.safetensors", "adapter_config.json")
# One folder per stage and kind, since DVC stages cannot share an output folder.
FOLDERS = {
    "base": "base",
    "ingredient": "ingredients",
    "reference": "ingredients",  # all are of the sweep
    "phase": "ingredients",
    "soup": "soups",
    "tuned": "tuned",
}


@dataclass(frozen=True, slots=True)
class Store:
    """The store of a project.

    Attributes:
        root: the project root.
    """

    root: Path

    def find(self, kind: str, key: str, name: str) -> Model | None:
        """Return the model, named `name`; None unless its weights are in the store and whole.

        Raises:
            InputError, StageFailed: the shared store cannot be used.
        """
        model, shared = self._local(kind, key, name), store_of(self.root)
        if shared is None:
            return model
        path = self._weights(kind, key)
        if model is not None:
            shared.share(path, self._files(path))
        elif "failed" not in (self._record(kind, key) or {}):
            shared.fetch(path)
        return self._local(kind, key, name)

    def _local(self, kind: str, key: str, name: str) -> Model | None:
        record = self._record(kind, key)
        if record is None or "failed" in record:
            return None
        path = self._weights(kind, key)
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            return None
        if "adapter" in record["details"] and not self.adapter_files(path):
            return None
        relative = path.relative_to(self.root).as_posix()
        return Model(name=name, kind=kind, key=key, path=relative, **record)

    def failure(self, kind: str, key: str) -> str | None:
        """Return the recorded reason why the model cannot be made; None if there is none."""
        record = self._record(kind, key)
        if record is None and (shared := store_of(self.root)):
            if reason := shared.failure(self._weights(kind, key)):
                self._write_record(kind, key, {"failed": reason})
            return reason
        return None if record is None else record.get("failed")

    def save(
        self,
        kind: str,
        key: str,
        name: str,
        tensors: Mapping[str, Tensor],
        details: Mapping[str, Any],
    ) -> Model:
        """Write the weights and the record of a model; the density is added to its details."""
        path = self._weights(kind, key)
        details = {**details, "density": density_of(tensors)}
        digest = save_checkpoint(path, tensors, {"stockpot": pedigree(kind, key, details)})
        record = {
            "digest": digest,
            "bytes": path.stat().st_size,
            "num_params": sum(tensor.numel() for tensor in tensors.values()),
            "details": details,
        }
        self._write_record(kind, key, record)
        if shared := store_of(self.root):
            shared.share(path, self._files(path), is_new=True)
        model = self._local(kind, key, name)
        assert model is not None
        return model

    def save_adapter(
        self, kind: str, key: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
    ) -> str:
        """Write the adapter of weights that are saved next; return its folder under the root."""
        folder = self._weights(kind, key).with_suffix(_ADAPTER)
        save_checkpoint(folder / _ADAPTER_FILES[0], tensors, {"format": "pt"})
        write_text(folder / _ADAPTER_FILES[1], json.dumps(config, indent=2, sort_keys=True) + "\n")
        return folder.relative_to(self.root).as_posix()

    @staticmethod
    def adapter_files(weights: Path) -> list[Path]:
        """List the files of the adapter next to weights; empty unless all exist."""
        files = [weights.with_suffix(_ADAPTER) / name for name in _ADAPTER_FILES]
        return files if all(path.is_file() for path in files) else []

    def save_failure(self, kind: str, key: str, reason: str) -> None:
        """Record why a model cannot be made, so that no later run tries again."""
        self._write_record(kind, key, {"failed": reason})
        if shared := store_of(self.root):
            shared.share_failure(self._weights(kind, key), reason)

    def share(self, models: Iterable[Model]) -> None:
        """Upload those local models that the shared store lacks, if the project has one."""
        shared = store_of(self.root)
        if shared is None:
            return
        paths = {self.root / model.path for model in models}
        for folder, group in groupby(sorted(paths), key=lambda path: path.parent.name):
            known = shared.keys(folder)
            for path in group:
                if path.stem not in known:
                    shared.share(path, self._files(path))

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Lock a key, so that no other process makes the same model, such as a leftover stage."""
        return file_lock(self.root / ".stockpot" / "locks" / f"{key}.lock")

    def make_folders(self) -> None:
        """Create the folder of every kind: DVC expects it even of a stage that made no model."""
        for folder in FOLDERS.values():
            (self.root / "checkpoints" / folder).mkdir(parents=True, exist_ok=True)

    def files(self) -> list[Path]:
        """List the files of all models, sorted, without DVC's own files in `checkpoints`."""
        folder = self.root / "checkpoints"
        found = (*folder.glob("*/*"), *folder.glob(f"*/*{_ADAPTER}/*"))
        return sorted(path for path in found if path.is_file())

    def _files(self, weights: Path) -> list[Path]:
        return [weights, *self.adapter_files(weights)]

    def _weights(self, kind: str, key: str) -> Path:
        return self.root / "checkpoints" / FOLDERS[kind] / f"{key}.safetensors"

    def _record(self, kind: str, key: str) -> dict[str, Any] | None:
        path = self._weights(kind, key).with_suffix(".json")
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # ValueError: damaged, so the model is rebuilt
            return None
        return record

    def _write_record(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        path = self._weights(kind, key).with_suffix(".json")
        write_text(path, json.dumps(record, indent=2, sort_keys=True) + "\n")


def pedigree(kind: str, key: str, details: Mapping[str, Any]) -> str:
    """Return the metadata in a model's header as JSON; long details are in the manifest alone."""
    long = {"trials", "front", "folds", "class_entropy", "layer_coefficients", "paths", "history"}
    long |= {"distances", "losses", "groups"}
    short = {name: value for name, value in details.items() if name not in long}
    return json.dumps({"kind": kind, "key": key, **short}, sort_keys=True)


def remember_champion(root: Path, checkpoint: str) -> None:
    """Record that a checkpoint has been champion: `stockpot gc` keeps those, for rollbacks.

    Args:
        root: the project root.
        checkpoint: its file, relative to the root.
    """
    known = [path.relative_to(root).as_posix() for path in champion_files(root)]
    if checkpoint not in known:
        write_text(root / _CHAMPIONS, json.dumps([*known, checkpoint], indent=2) + "\n")


def champion_files(root: Path) -> list[Path]:
    """List the checkpoints of this project that have been champion."""
    try:
        text = (root / _CHAMPIONS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [root / checkpoint for checkpoint in json.loads(text)]
