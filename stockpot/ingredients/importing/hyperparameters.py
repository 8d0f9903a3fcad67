"""How a checkpoint was trained, as far as a JSON or CSV file beside it says so."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.tracking import flatten

Values = Mapping[str, float | str]

OF_FOLDER = "hyperparameters.json"
TABLE = "hyperparameters.csv"

_LONGEST = 500  # characters of a text; what is longer is no hyperparameter


def find_hyperparameters(path: Path) -> dict[str, float | str]:
    """Return the hyperparameters of a checkpoint; none where no file has them.

    Looked for, and the first that is there is taken: `<stem>.json` beside a file;
    `hyperparameters.json` in the folder, or in that of the file; a row of `hyperparameters.csv`
    beside it, or one folder further up, whose first cell is the name of the file (with its ending
    or without) or of the folder. In a JSON file a mapping called `hyperparameters` is taken, if
    there is one, also below `details`, as in the records of a stockpot project. Numbers and short
    texts count; nested ones get dotted names; lists and nulls are left out.

    Args:
        path: a file or folder of weights, which exists.

    Raises:
        InputError: such a file is damaged.
    """
    folder = path if path.is_dir() else path.parent
    beside = [] if path.is_dir() else [path.with_suffix(".json")]
    for file in (*beside, folder / OF_FOLDER):
        if file.is_file():
            return _from_json(file)
    names = {path.name, path.stem, folder.name}
    for table in (path.parent / TABLE, path.parent.parent / TABLE):
        if table.is_file() and (row := _row(table, names)):
            return row
    return {}


def _from_json(file: Path) -> dict[str, float | str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: must be a mapping, got {type(content).__name__}")
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
    """Return the row of a checkpoint; empty if the table has none."""
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
    """Return a name that MLflow takes for a parameter."""
    return re.sub(r"[^\w.\- /]", "_", key.strip())
