"""What columns of tables become for a net: numbers standardised, categories one-hot.

All that is learned is learned from train, so that a model sees other tables as it saw train.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockpot.errors import InputError
from stockpot.workloads.tables.reading import Table, as_number
from stockpot.workloads.tables.table_formats import Cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_CATEGORIES = 256


@dataclass(frozen=True, slots=True)
class NumberFeature:
    """A column of numbers: (x - mean) / scale, then 1 where it is missing if train has such cells.

    Attributes:
        column: its name.
        mean: of train's cells that are not missing; a missing cell counts as the mean.
        scale: their standard deviation; 1 if all are equal.
        has_missing: whether cells of train are missing.
    """

    column: str
    mean: float
    scale: float
    has_missing: bool

    @property
    def width(self) -> int:
        """The number of features."""
        return 1 + self.has_missing

    def encode(self, table: Table) -> NDArray[np.float64]:
        """Return the features of all rows; (N, width)."""
        import numpy as np

        values = table.numbers(self.column)
        missing = np.isnan(values)
        standard = np.where(missing, 0.0, (values - self.mean) / self.scale)
        return np.stack([standard, missing] if self.has_missing else [standard], axis=1)


@dataclass(frozen=True, slots=True)
class CategoryFeature:
    """A column of texts: 1 for the category of a row, and 0 for all others.

    Attributes:
        column: its name.
        categories: those of train, in order; None, if it is one, stands for a missing cell. A
            row of none of them has zeros alone.
    """

    column: str
    categories: tuple[str | None, ...]

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.categories)

    def encode(self, table: Table) -> NDArray[np.float64]:
        """Return the features of all rows; (N, width)."""
        import numpy as np

        places = {category: place for place, category in enumerate(self.categories)}
        found = [places.get(_text(cell), -1) for cell in table.columns[self.column]]
        is_of: NDArray[np.bool_] = np.array(found)[:, None] == np.arange(self.width)
        return is_of.astype(np.float64)


Feature = NumberFeature | CategoryFeature


def learn_features(
    train: Table, columns: Sequence[str], categorical: Collection[str]
) -> list[Feature]:
    """Learn from train what its columns become.

    Args:
        train: the table, with all of `columns`.
        columns: those to use, in order.
        categorical: those whose numbers are categories. The others are numbers if one of their
            cells is, else categories.

    Raises:
        InputError: a column has numbers and texts, no value at all, or too many categories.
    """
    return [
        _categories(train, column)
        if column in categorical or _has_no_number(train, column)
        else _numbers(train, column)
        for column in columns
    ]


def encode(table: Table, features: Sequence[Feature]) -> NDArray[np.float32]:
    """Return the features of all rows of a table, side by side; (N, D), float32."""
    import numpy as np

    return np.concatenate([one.encode(table) for one in features], axis=1).astype(np.float32)


def target_numbers(table: Table, column: str) -> NDArray[np.float64]:
    """Return the numbers to predict; (N,).

    Raises:
        InputError: a cell is missing or no number.
    """
    table.texts(column)
    return table.numbers(column)


def row_contents(table: Table) -> list[tuple[str | None, ...]]:
    """Return what is in each row, the same whatever the format of the file; (N,)."""
    columns = [[_text(cell) for cell in cells] for cells in table.columns.values()]
    return list(zip(*columns, strict=True))


def note_gaps(table: Table, features: Sequence[Feature]) -> list[str]:
    """Say of each column how many cells are missing or of no known category, if any are."""
    notes = []
    for feature in features:
        cells = table.columns[feature.column]
        missing = sum(cell is None for cell in cells)
        if missing:
            kept = "as a category" if isinstance(feature, CategoryFeature) else "as train's mean"
            notes.append(f"{feature.column}: {missing} of {len(cells)} missing, taken {kept}")
        if isinstance(feature, CategoryFeature):
            known = {*feature.categories, None}
            strange = sum(_text(cell) not in known for cell in cells)
            if strange:
                notes.append(f"{feature.column}: {strange} of {len(cells)} of no category of train")
    return notes


def _has_no_number(table: Table, column: str) -> bool:
    numbers = (as_number(cell) for cell in table.columns[column] if cell is not None)
    return all(number is None for number in numbers)


def _numbers(train: Table, column: str) -> NumberFeature:
    import numpy as np

    try:
        values = train.numbers(column)
    except InputError as error:
        raise InputError(
            f"{error}; empty the cell if its value is missing, or name the column in the option "
            "categorical"
        ) from error
    scale = float(np.nanstd(values))
    is_constant = math.isclose(scale, 0.0, abs_tol=1e-12 * float(np.nanmax(np.abs(values))))
    mean = float(np.nanmean(values))
    return NumberFeature(column, mean, 1.0 if is_constant else scale, bool(np.isnan(values).any()))


def _categories(train: Table, column: str) -> CategoryFeature:
    found = {_text(cell) for cell in train.columns[column]}
    texts = sorted(text for text in found if text is not None)
    if not texts:
        raise InputError(
            f"{train.path}: {column!r} must have a value, got none in {train.num_rows} rows; leave "
            "it out with the option features"
        )
    if len(texts) > _MOST_CATEGORIES:
        raise InputError(
            f"{train.path}: {column!r} must have {_MOST_CATEGORIES} categories at most, got "
            f"{len(texts)}; leave it out with the option features"
        )
    return CategoryFeature(column, (*texts, None) if None in found else tuple(texts))


def _text(cell: Cell) -> str | None:
    return None if cell is None else str(cell)
