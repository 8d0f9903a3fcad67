"""Features of table columns: standardised numbers and one-hot categories, learned from train."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockpot.errors import InputError
from stockpot.workloads.tables.reading import Table, as_number
from stockpot.workloads.tables.table_formats import Cell

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_CATEGORIES = 256


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """The encoding of a table's columns as features, fitted on train.

    A number is standardised by train's mean and deviation, and a missing one is the mean; it is
    followed by a feature that is 1 where it is missing, if any is missing in train. A category is
    one-hot over train's sorted texts, with missing as the last category if train has such cells; a
    cell of no category of train is all zeros.

    Attributes:
        is_number: by column, in the order of the features, whether it holds numbers.
        encoder: scikit-learn's `ColumnTransformer`, fitted, with one transformer per column.
    """

    is_number: Mapping[str, bool]
    encoder: Any

    def encode(self, table: Table) -> NDArray[np.float32]:
        """Return the features of all rows of a table; (N, D).

        Raises:
            InputError: a cell of a column of numbers is not a finite number.
        """
        import numpy as np

        features: NDArray[np.float32] = self.encoder.transform(_cells(table, self.is_number))
        return features.astype(np.float32)

    @property
    def number_mask(self) -> NDArray[np.float32]:
        """1 for each feature that is a number, 0 for categories and missing-value flags; (D,)."""
        import numpy as np

        spans = [*self.encoder.output_indices_.values()]
        mask = np.zeros(max(span.stop for span in spans), np.float32)
        for span, is_number in zip(spans, self.is_number.values(), strict=False):
            mask[span.start] = is_number
        return mask

    def notes(self, table: Table) -> list[str]:
        """Report columns with missing cells or with categories that train lacks, with counts."""
        notes = []
        for (column, is_number), fitted in zip(
            self.is_number.items(), self.encoder.transformers_, strict=False
        ):
            cells = table.columns[column]
            missing = sum(cell is None for cell in cells)
            if missing:
                replacement = "as train's mean" if is_number else "as a category"
                notes.append(f"{column}: {missing} of {len(cells)} missing, taken {replacement}")
            if not is_number:
                known = {*fitted[1].categories_[0], None}
                unknown = sum(_text(cell) not in known for cell in cells)
                if unknown:
                    notes.append(f"{column}: {unknown} of {len(cells)} of no category of train")
        return notes


def learn_features(
    train: Table, columns: Sequence[str], categorical: Collection[str]
) -> TableFeatures:
    """Fit the encoding of columns on train.

    Args:
        train: the table, with all of `columns`.
        columns: those to use, in order.
        categorical: those whose numbers are categories. The others are numbers if one of their
            cells is a number, else categories.

    Raises:
        InputError: a column mixes numbers and texts, has no value at all, or too many categories.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    is_number = {c: c not in categorical and _has_number(train, c) for c in columns}
    for column in (name for name, number in is_number.items() if not number):
        _check_categories(train, column)
    # Scaled first, so that the mean is 0 and the flags of missing values are not scaled.
    number = make_pipeline(
        StandardScaler(), SimpleImputer(strategy="constant", fill_value=0, add_indicator=True)
    )
    category = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoder = ColumnTransformer(
        [
            (f"column {place}", number if is_of_numbers else category, [place])
            for place, is_of_numbers in enumerate(is_number.values())
        ]
    )
    try:
        encoder.fit(_cells(train, is_number))
    except InputError as error:
        raise InputError(
            f"{error}; empty the cell if its value is missing, or name the column in the option "
            "categorical"
        ) from error
    return TableFeatures(is_number, encoder)


def target_numbers(table: Table, column: str) -> NDArray[np.float64]:
    """Return the numbers to predict; (N,).

    Raises:
        InputError: a cell is missing or not a number.
    """
    table.texts(column)
    return table.numbers(column)


def row_contents(table: Table) -> list[tuple[str | None, ...]]:
    """Return the cells of each row as texts, independent of the file's format; (N,)."""
    columns = [[_text(cell) for cell in cells] for cells in table.columns.values()]
    return list(zip(*columns, strict=True))


def _cells(table: Table, is_number: Mapping[str, bool]) -> NDArray[np.object_]:
    """Return columns as scikit-learn takes them: floats or NaN, texts or None; (N, K)."""
    import numpy as np

    cells = np.empty((table.num_rows, len(is_number)), dtype=object)
    for place, (column, is_of_numbers) in enumerate(is_number.items()):
        texts = [_text(cell) for cell in table.columns[column]]
        cells[:, place] = table.numbers(column) if is_of_numbers else texts
    return cells


def _has_number(table: Table, column: str) -> bool:
    cells = table.columns[column]
    return any(cell is not None and as_number(cell) is not None for cell in cells)


def _check_categories(train: Table, column: str) -> None:
    texts = {_text(cell) for cell in train.columns[column]} - {None}
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


def _text(cell: Cell) -> str | None:
    return None if cell is None else str(cell)
