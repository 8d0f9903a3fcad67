"""The files of a model that are not weights, which a merged model takes over.

All files of the model's folder and the folders in it are taken, except weights, the state of
training, hidden files, the model card, and folders with weights of their own that are not part of
the model, such as exports to other formats and checkpoints of a training.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.weights.adapter_config import CONFIG
from stockpot.storage.weights.components import all_weights, weight_folders
from stockpot.storage.weights.hub_layout import cache_blobs
from stockpot.storage.weights.model_files import is_training_state, is_weights
from stockpot.storage.weights.quantized.claims import SIDE_FILES

CARD = "README.md"

_TRAINING_FOLDER = re.compile(r"^(checkpoint-\d+|global_step\d+|runs|logs|wandb|eval|__pycache__)$")
_INDEX = re.compile(r"\.index(\.\w+)?\.json$")  # of shards, of a variant such as fp16 too
_EXPORTS = ("onnx", "openvino", "coreml", "original")
_OF_ORIGIN = ("mergekit_config.yml", "mergekit_config.yaml", CONFIG)


@dataclass(frozen=True, slots=True)
class Companions:
    """The files of one model that are not weights.

    Attributes:
        folder: of the model.
        files: the files that are taken over, by their path in the folder.
        left_out: the others, and folders that are left out whole: paths by reason.
    """

    folder: Path
    files: Mapping[str, Path]
    left_out: Mapping[str, list[str]]

    def without(self, is_other: Callable[[str], bool]) -> Companions:
        """Leave out files by their path, which are not taken over."""
        files = {name: file for name, file in self.files.items() if not is_other(name)}
        return replace(self, files=files)


def find_companions(folder: Path, *, are_copied: bool = True) -> Companions:
    """List the files of a model that are not weights.

    Links are followed within the folder, and into the blobs of the Hugging Face cache that the
    folder is part of.

    Args:
        folder: of the model.
        are_copied: whether all must be fit to be copied; else those that are not are omitted.

    Raises:
        InputError: a file that is to be copied is a link that leads elsewhere or nowhere, is not a
            regular file, or cannot be read.
    """
    search = _Search(folder, are_copied=are_copied)
    files = dict(search.files_in(folder))
    return Companions(folder, files, search.left_out)


def companions_of(origin: Path | None, place: Path) -> Companions | None:
    """List the files that are copied next to merged weights; None if these are a single file.

    Args:
        origin: the folder of the model whose files are copied; None if it is a file.
        place: of the merged model.

    Raises:
        InputError: the folder is missing, or a file cannot be copied.
    """
    if origin is not None and not origin.exists():
        raise InputError(f"config_from: {origin}: no such folder")
    if place.suffix == ".safetensors" or origin is None or not origin.is_dir():
        return None
    return find_companions(origin)


def copy_companions(companions: Companions, folder: Path) -> None:
    """Copy the files of a model into the folder of a merged one."""
    for name, file in companions.files.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


class _Search:
    """The search through one model's folder."""

    def __init__(self, folder: Path, *, are_copied: bool) -> None:
        self._are_copied = are_copied
        self.left_out: dict[str, list[str]] = {}
        self._folder = folder
        self._components: list[str] = []
        self._merged: set[Path] = set()
        # A folder with a tokenizer alone has no weights to find.
        with suppress(InputError):
            self._components = weight_folders(folder)
            self._merged |= set(all_weights(folder))
        blobs = cache_blobs(folder)
        self._allowed = [folder.resolve(), *([blobs] if blobs else [])]

    def files_in(self, folder: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[str, Path]]:
        """Yield the files in a folder that are taken over, by path, and note the others.

        Args:
            folder: the model's, or one in it.
            above: the folders that it is in, without links.
        """
        above = (*above, folder.resolve())
        for path in sorted(folder.iterdir()):
            name = path.relative_to(self._folder).as_posix()
            if path in self._merged or _INDEX.search(path.name):
                continue
            if reason := self._reason_against(path, name):
                self.left_out.setdefault(reason, []).append(name)
                continue
            if fault := self._fault_of(path, above):
                if self._are_copied:
                    raise InputError(f"{path}: {fault}")
            elif path.is_dir():
                yield from self.files_in(path, above)
            else:
                yield name, path

    def _reason_against(self, path: Path, name: str) -> str:
        """Return the reason to leave out a file or folder; empty if it is taken over."""
        is_file, is_component = not path.is_dir(), name in self._components
        reasons = {
            "hidden": path.name.startswith("."),
            "replaced by the merged model's own card": name.lower() == CARD.lower(),
            "about how the model was made": name in _OF_ORIGIN or path.name in SIDE_FILES,
            "of its training": is_training_state(path.name)
            if is_file
            else _TRAINING_FOLDER.search(path.name),
            "weights in another format, or of another model": is_weights(path.name)
            or path.name in _EXPORTS
            or (not (is_file or is_component) and _has_weights(path)),
        }
        return next((reason for reason, applies in reasons.items() if applies), "")

    def _fault_of(self, path: Path, above: Collection[Path]) -> str:
        """Return why a file or folder cannot be copied, and what to do; empty if it can."""
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):
            return "is a link to nothing; remove it or mend it"
        if not any(target.is_relative_to(allowed) for allowed in self._allowed):
            return f"is a link to {target}, outside the model; replace it by a copy of the file"
        if target in above:
            return "is a link to a folder that it is in; remove it"
        if not (target.is_dir() or target.is_file()):
            return "is neither a file nor a folder; remove it from the model"
        if not os.access(target, os.R_OK):
            return "cannot be read; change its permissions"
        return ""


def _has_weights(folder: Path) -> bool:
    return os.access(folder, os.R_OK) and any(is_weights(path.name) for path in folder.iterdir())
