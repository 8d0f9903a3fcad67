"""Sources of texts: files of the project, or a dataset of the Hugging Face hub.

Importing this module, and opening data, import neither datasets nor pyarrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from stockpot.errors import InputError, nearest_hint, unknown_name
from stockpot.storage.digests import file_digest
from stockpot.workloads.files import project_path
from stockpot.workloads.protocol import SPLITS
from stockpot.workloads.tables.reading import (
    Table,
    check_val_and_test,
    find_shift,
    find_splits,
    read_table,
)
from stockpot.workloads.tables.table_formats import READERS, as_cell
from stockpot.workloads.texts.pretrained import check_installed, first_line, is_hub_id

_ON_HUB = {"val": "validation"}  # names of splits on the hub, if different


@dataclass(frozen=True)
class FolderData:
    """Tables in files that are named after their split or shift.

    Attributes:
        path: a folder, or one file.
    """

    path: Path

    def splits(self, columns: Sequence[str]) -> dict[str, Table]:
        """Read columns of each split that has a file; `train` always does."""
        return {name: read_table(path, columns) for name, path in find_splits(self.path).items()}

    def shift(self, name: str, columns: Sequence[str]) -> Table:
        """Read a shift from the file of its name."""
        return read_table(find_shift(self.path, name), columns)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the files of the splits."""
        return _lines_digest(
            f"{name} {file_digest(p)}" for name, p in find_splits(self.path).items()
        )

    def shift_digest(self, name: str) -> str:
        """Return the SHA-256 (hex) of the file of a shift."""
        return file_digest(find_shift(self.path, name))


@dataclass(frozen=True)
class HubData:
    """A dataset of the hub or its local cache; shifts are its other splits.

    Attributes:
        name: its id.
        config: its configuration, if it has several; None for the only one.
    """

    name: str
    config: str | None = None

    def splits(self, columns: Sequence[str]) -> dict[str, Table]:
        """Read columns of each split that exists; `train` always does."""
        return {
            split: self._table(split, columns)
            for split in SPLITS
            if _ON_HUB.get(split, split) in self._loaded
        }

    def shift(self, name: str, columns: Sequence[str]) -> Table:
        """Read the split with the name of the shift."""
        if name not in self._loaded:
            raise unknown_name(f"shift in {self.name}:", name, {*self._loaded} - {*SPLITS})
        return self._table(name, columns)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the cached files of the splits."""
        return _lines_digest(f"{name} {self.shift_digest(name)}" for name in sorted(self._loaded))

    def shift_digest(self, name: str) -> str:
        """Return the SHA-256 (hex) of the cached files of a split."""
        files = [Path(file["filename"]) for file in self._loaded[name].cache_files]
        return _lines_digest(file_digest(path) for path in files)

    @cached_property
    def _loaded(self) -> Any:
        """The dataset by split, from the local cache or the network."""
        import datasets

        bars = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            loaded = datasets.load_dataset(self.name, self.config)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise InputError(
                f"workload.options.data: there must be a folder or file {project_path(self.name)}, "
                f"or a dataset {self.name!r} on the hub or in its cache, got "
                f"{first_line(error)}; check the name and the network"
            ) from error
        finally:
            if bars:
                datasets.enable_progress_bars()
        if "train" not in loaded:
            raise InputError(f"{self.name}: must have a split train, got {sorted(loaded)}")
        check_val_and_test(self.name, [n for n in SPLITS if _ON_HUB.get(n, n) in loaded])
        return loaded

    def _table(self, split: str, columns: Sequence[str]) -> Table:
        found = self._loaded[_ON_HUB.get(split, split)]
        for column in columns:
            if column not in found.column_names:
                raise InputError(
                    f"{self.name}/{split}: must have a column {column!r}, got "
                    f"{sorted(found.column_names)}{nearest_hint(column, found.column_names)}"
                )
        cells = {column: [as_cell(value) for value in found[column]] for column in columns}
        return Table(Path(self.name) / split, MappingProxyType(cells), len(found), None)


TextData: TypeAlias = FolderData | HubData


def open_data(data: str, shifts: Iterable[str]) -> TextData:
    """Find the data of an option without reading it.

    Args:
        data: a folder or file, relative to the project's folder; else an id on the hub: `name`,
            `owner/name`, or either with `:configuration`.
        shifts: names of the chosen shifts.

    Raises:
        InputError: a file, split or shift is missing; or the package datasets, for data of the
            hub, is not installed.
    """
    path, (name, _, config) = project_path(data), data.partition(":")
    if not path.exists() and is_hub_id(name) and path.suffix not in READERS:
        check_installed("datasets")
        return HubData(name, config or None)
    return open_folder(path, shifts)


def open_folder(path: Path, shifts: Iterable[str]) -> FolderData:
    """Find tables in a folder, or in one file, without reading them.

    Raises:
        InputError: a file of a split or shift is missing.
    """
    find_splits(path)
    for shift in shifts:
        find_shift(path, shift)
    return FolderData(path)


def _lines_digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
