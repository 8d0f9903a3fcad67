"""Hyperparameters of a checkpoint, from a JSON or CSV file next to it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.storage.weights.model_config import read_json_mapping
from stockpot.tracking.records import flatten

Values = Mapping[str, float | str]

OF_FOLDER = "hyperparameters.json"
TABLE = "hyperparameters.csv"

_LONGEST = 500  # characters of a text; longer texts are not hyperparameters


def find_hyperparameters(path: Path) -> dict[str, float | str]:
    """Return the hyperparameters of a checkpoint; empty if no file has them.

    The first of these files that exists is read: `<stem>.json` next to a file;
    `hyperparameters.json` in the folder of the weights; `hyperparameters.csv` next to the file or
    folder, or one folder up, in the row whose first cell is the name of the file (with or without
    its suffix) or of the folder. Of a JSON file, the mapping `hyperparameters` is used if it has
    one, also inside `details`, as in the records of a stockpot project. Numbers and short texts are
    returned, nested ones with dotted names; lists and nulls are left out.

    Args:
        path: an existing file or folder of weights.

    Raises:
        InputError: such a file is damaged.
    """
    folder = path if path.is_dir() else path.parent
    adjacent = [] if path.is_dir() else [path.with_suffix(".json")]
    for file in (*adjacent, folder / OF_FOLDER):
        if file.is_file():
            return _from_json(file)
    names = {path.name, path.stem, folder.name}
    for table in (path.parent / TABLE, path.parent.parent / TABLE):
        if table.is_file() and (row := _row(table, names)):
            return row
    return {}


def _from_json(file: Path) -> dict[str, float | str]:
    content = read_json_mapping(file)
    details = content.get("details")
    for holder in (content, details if isinstance(details, dict) else {}):
        if isinstance(holder.get("hyperparameters"), dict):
            return _scalars(holder["hyperparameters"])
    return _scalars(content)


def _scalars(content: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the numbers and short texts of a mapping; nested ones get dotted names."""
    scalars: dict[str, float | str] = {}
    for key, value in flatten(content).items():
        if isinstance(value, bool):
            scalars[_name(key)] = str(value).lower()
        elif isinstance(value, int | float):
            scalars[_name(key)] = value if math.isfinite(value) else str(value)
        elif isinstance(value, str) and len(value) <= _LONGEST:
            scalars[_name(key)] = value
    return scalars


def _row(table: Path, names: set[str]) -> dict[str, float | str]:
    """Return the row of a checkpoint as a mapping; empty if the table has none."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{table}: not readable as CSV ({error})") from error
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(
                f"{table}: row {number}: must have {len(header)} cells, as the header, "
                f"got {len(row)}"
            )
    found = [row for row in rows if row[0].strip() in names]
    if len(found) > 1:
        raise InputError(f"{table}: must name each checkpoint once, got {found[0][0]!r} twice")
    cells = {name: cell.strip() for row in found for name, cell in zip(header, row, strict=True)}
    return {_name(name): _value(cell) for name, cell in list(cells.items())[1:] if cell}


def _value(cell: str) -> float | str:
    for kind in (int, float):
        try:
            number = kind(cell)
        except ValueError:
            continue
        return number if math.isfinite(number) else cell
    return cell


def _name(key: str) -> str:
    """Replace the characters that MLflow does not allow in the name of a parameter."""
    return re.sub(r"[^\w.\- /]", "_", key.strip())
