"""The formats of tables: CSV, JSONL and Parquet files, read into columns of cells; and plain text.

Importing this module imports no pyarrow.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stockpot.errors import InputError

Cell = str | int | float | None
"""Text, a number, or None for a missing value."""

PLAIN = ".txt"
"""The suffix of plain text."""

_Columns = dict[str, list[Cell]]
_Read = tuple[_Columns, Sequence[int] | None]


def as_cell(value: Any) -> Cell:
    """Return a value as a cell: whole floats as integers, so that 1.0 and 1 are one class."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: must be UTF-8, got the byte {content[error.start]:#04x}; "
            "save the file as UTF-8"
        ) from error


def _read_csv(path: Path) -> _Read:
    filled = [(line, cells) for line, cells in _csv_rows(path) if cells]
    (first, header), *rows = filled or [(1, [])]
    if len(set(header)) < len(header):
        raise InputError(f"{path}:{first}: columns must have different names, got {header}")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}:{line}: must have {len(header)} cells, got {len(row)}")
    columns: _Columns = {
        name: [row[place] or None for _, row in rows] for place, name in enumerate(header)
    }
    return columns, [line for line, _ in rows]


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with the line on which each begins: a quoted cell may span several."""
    csv.field_size_limit(sys.maxsize)  # the default, for the whole process, is 131 072 characters
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}:{line}: must be CSV, got {error}") from error


def _read_jsonl(path: Path) -> _Read:
    rows, lines = [], []
    for line, text in enumerate(_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}:{line}: must be JSON, got {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}:{line}: must be an object, got {text.strip()[:40]!r}")
        rows.append(row)
        lines.append(line)
    names = dict.fromkeys(name for row in rows for name in row)  # in order of appearance
    return {name: [as_cell(row.get(name)) for row in rows] for name in names}, lines


def _read_parquet(path: Path) -> _Read:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: must be a Parquet file, got {error}") from error
    columns = table.to_pydict()
    return {name: [as_cell(value) for value in cells] for name, cells in columns.items()}, None


def _read_plain(path: Path) -> _Read:
    """Read a whole text as one row with the column `text`."""
    text = _text(path)
    return {"text": [text] if text else []}, [1]


READERS: Mapping[str, Callable[[Path], _Read]] = MappingProxyType(
    {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet, PLAIN: _read_plain}
)
