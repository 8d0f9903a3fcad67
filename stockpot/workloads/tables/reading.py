"""Tables in CSV, JSONL and Parquet files: columns by name, and errors that name file and line.

Cells are text, numbers or None for a missing value: an empty cell, null or NaN. CSV has only
texts, so `numbers` parses them; a class is identified by its text in all formats.
Importing this module imports neither numpy nor pyarrow.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.errors import InputError, nearest_hint, unknown_name
from stockpot.workloads.protocol import SPLITS
from stockpot.workloads.tables.table_formats import READERS, Cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of one file.

    Attributes:
        path: the file.
        columns: the cells (N,) of each column, in the file's order.
        num_rows: N, at least 1.
        lines: the line on which each row begins, from 1; None for Parquet.
    """

    path: Path
    columns: Mapping[str, Sequence[Cell]]
    num_rows: int
    lines: Sequence[int] | None

    def where(self, row: int) -> str:
        """Return the place of a row, e.g. `data/train.csv:7`, for messages."""
        if self.lines is None:
            return f"{self.path}: row {row + 1}"
        return f"{self.path}:{self.lines[row]}"

    def texts(self, column: str) -> list[str]:
        """Return the cells of a column as text; (N,).

        Raises:
            InputError: a cell is missing.
        """
        cells = self.columns[column]
        if None in cells:
            place = self.where(cells.index(None))
            raise InputError(f"{place}: {column!r} must have a value, got none")
        return [str(cell) for cell in cells]

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return the cells of a column as numbers, NaN where one is missing; (N,).

        Raises:
            InputError: a cell is not a finite number.
        """
        import numpy as np

        cells = self.columns[column]
        numbers = [as_number(cell) for cell in cells]
        if None in numbers:
            row = numbers.index(None)
            raise InputError(
                f"{self.where(row)}: {column!r} must be a finite number, got {cells[row]!r}"
            )
        return np.array(numbers, dtype=np.float64)

    def classes(self, column: str) -> tuple[str, ...]:
        """Return the different texts of a column, in numerical order if all are integers.

        Raises:
            InputError: a cell is missing, or there are fewer than two classes.
        """
        names = set(self.texts(column))
        if len(names) < 2:
            raise InputError(
                f"{self.path}: {column!r} must have two classes or more, got {names.pop()!r}"
            )
        if all(_is_whole(name) for name in names):
            return tuple(sorted(names, key=lambda name: (int(name), name)))
        return tuple(sorted(names))

    def targets(self, column: str, classes: Sequence[str]) -> list[int]:
        """Return the index in `classes` of each cell of a column; (N,).

        Raises:
            InputError: a cell is missing, or not one of the classes.
        """
        indices = {name: index for index, name in enumerate(classes)}
        names = self.texts(column)
        for row, name in enumerate(names):
            if name not in indices:
                raise unknown_name(f"class of {column!r} at {self.where(row)}:", name, classes)
        return [indices[name] for name in names]

    def check_all_present(self, column: str, classes: Sequence[str]) -> None:
        """Check that each of `classes` has an example.

        Raises:
            InputError: one has no example.
        """
        absent = sorted(set(classes) - set(self.texts(column)))
        if absent:
            raise InputError(
                f"{self.path}: {column!r} must have examples of each class, got none of {absent}"
            )


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a table.

    Args:
        path: a file that ends in .csv (comma-separated, with a header), .jsonl (one object
            per line) or .parquet; or in .txt, whose whole text is one row, `text`.
        columns: the columns to return, in this order; None returns all.

    Returns:
        The table; texts unchanged, true and false as the texts `True` and `False`.

    Raises:
        InputError: the file is missing, damaged, empty or not UTF-8, or lacks a column; with the
            line if there is one.
    """
    read = READERS.get(path.suffix)
    if read is None:
        raise InputError(f"{path}: a table must end in {sorted(READERS)}, got {path.suffix!r}")
    if not path.is_file():
        raise InputError(f"{path}: there must be a file, got none; check the option data")
    found, lines = read(path)
    num_rows = len(next(iter(found.values()), ()))
    if not num_rows:
        raise InputError(f"{path}: must have rows, got an empty table")
    wanted = tuple(found) if columns is None else columns
    for column in wanted:
        if column not in found:
            raise InputError(
                f"{path}: must have a column {column!r}, got {sorted(found)}"
                f"{nearest_hint(column, found)}"
            )
    selected = {column: found[column] for column in wanted}
    return Table(path, MappingProxyType(selected), num_rows, lines)


def find_splits(data: Path) -> dict[str, Path]:
    """Find the files of the splits.

    Args:
        data: a folder with the tables train, val and test, and optionally pretrain; or with train
            only, or one file: val and test are then split off, e.g. by
            `stockpot.workloads.splits.split_by_seed`.

    Returns:
        The file of each split that has one; `train` always does.

    Raises:
        InputError: no such folder or file, no train, one of val and test without the other, or
            a split in two files.
    """
    if data.is_file():
        return {"train": data}
    if not data.is_dir():
        raise InputError(f"{data}: there must be a folder or file of data, got none")
    found = {split: path for split in SPLITS if (path := _file_called(data, split))}
    if "train" not in found:
        raise InputError(
            f"{data}: must have a file train with one of {sorted(READERS)}, got {_names(data)}"
        )
    check_val_and_test(str(data), found)
    return found


def check_val_and_test(where: str, splits: Collection[str]) -> None:
    """Check that data have both val and test, or neither.

    Raises:
        InputError: one is there without the other.
    """
    if ("val" in splits) != ("test" in splits):
        raise InputError(
            f"{where}: must have both val and test, or neither, got {sorted(splits)}; "
            "without both they are split off train"
        )


def find_shift(data: Path, name: str) -> Path:
    """Find the file of a shift: `name` with the suffix of a table, next to the splits.

    Raises:
        InputError: there is none, there are two, or it is a split's.
    """
    folder = data.parent if data.is_file() else data
    path = _file_called(folder, name)
    if name in SPLITS or path is None or path == data:
        stems = {entry.stem for entry in _tables(folder) if entry != data}
        raise unknown_name(f"shift in {folder}:", name, stems - set(SPLITS))
    return path


def as_number(cell: Cell) -> float | None:
    """Return the number in a cell; NaN for a missing one, None for text or infinity."""
    try:
        number = math.nan if cell is None else float(cell)
    except (ValueError, OverflowError):
        return None
    return None if math.isinf(number) else number


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in READERS)


def _names(folder: Path) -> list[str]:
    return [path.name for path in _tables(folder)]


def _file_called(folder: Path, stem: str) -> Path | None:
    paths = [path for path in _tables(folder) if path.stem == stem]
    if len(paths) > 1:
        raise InputError(
            f"{folder}: there must be one file {stem!r}, got {[path.name for path in paths]}"
        )
    return paths[0] if paths else None


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
