"""Base of the workloads whose splits and shifts are tables, of numbers or of texts.

Importing this module imports no torch.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from stockpot.workloads.chosen_shifts import split_of_shifts
from stockpot.workloads.files import digest_of
from stockpot.workloads.protocol import SPLITS, Shift, Task
from stockpot.workloads.splits import check_disjoint, source_split, split_by_seed

if TYPE_CHECKING:
    from torch.utils.data import TensorDataset

    from stockpot.workloads.tables.reading import Table
    from stockpot.workloads.texts.text_data import TextData

_log = logging.getLogger("stockpot")


class TableWorkload(ABC):
    """Examples in tables, split by their files or by the seed, with other tables as shifts.

    Args:
        seed: fixes the splits, unless they are files.
        val_shifts: names of tables next to those of the splits, which may be used for choices.
        test_shifts: names of further tables, which are reported only; disjoint from `val_shifts`.

    Attributes:
        name: of the workload, for messages.
        version: raised when the splits or their tensors change: it is part of the digest.

    Raises:
        InputError: a shift is named twice.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    shift_names: ClassVar[tuple[str, ...] | None] = None
    task: Task
    _data: TextData
    _target: str  # the column to predict, if there is one

    def __init__(self, seed: int, val_shifts: Sequence[str], test_shifts: Sequence[str]) -> None:
        self._seed = seed
        self._shift_splits = split_of_shifts(self.name, val_shifts, test_shifts)
        self._datasets: dict[str, TensorDataset] = {}
        self._notes: dict[str, str] = {}

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the splits' files and the seed."""
        return digest_of(data=self._data.digest(), seed=self._seed, version=self.version)

    def dataset(self, split: str) -> TensorDataset:
        """Return the examples of a split, whose tensors the class describes.

        Raises:
            InputError: there is no such split; or a table is damaged, lacks a column, a value or
                a class, or has a cell of another type; or val or test has an example of another
                split.
        """
        split = source_split(self.name, split, self._rows)
        table, indices = self._rows[split]
        return self._cached(split, self._tables[table], indices)

    def shifts(self) -> Mapping[str, Shift]:
        """Return the chosen shifts, each with the examples of the table of its name."""
        digest = self._data.shift_digest
        return {
            name: Shift(split, partial(self._shifted, name), is_copy=False, digest=digest(name))
            for name, split in self._shift_splits.items()
        }

    def notes(self) -> list[str]:
        """Report what was left out or replaced in the examples of splits and shifts."""
        for split in SPLITS:
            self.dataset(split)
        for name in self._shift_splits:
            self._shifted(name)
        names = [*SPLITS, *(f"shift {name}" for name in self._shift_splits)]
        return [self._notes[name] for name in names if name in self._notes]

    @abstractmethod
    def _columns(self) -> Sequence[str]:
        """Return the columns that are used."""

    @abstractmethod
    def _contents(self) -> Mapping[str, Sequence[Hashable]]:
        """Return the content of each row, by the names of the tables."""

    @abstractmethod
    def _encoded(self, name: str, table: Table, indices: Sequence[int]) -> TensorDataset:
        """Return rows of a table as tensors.

        Args:
            name: the split of the rows, or `shift` and a shift's name.
            table: the table.
            indices: of the rows; all of them for a shift.
        """

    @cached_property
    def _tables(self) -> Mapping[str, Table]:
        """The table of each split that has one, with the columns that are used."""
        return self._data.splits(self._columns())

    def _where(self, table: str, row: int) -> str:
        """Return the place of a row, for messages."""
        return self._tables[table].where(row)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return self._tables["train"].classes(self._target)

    @cached_property
    def _rows(self) -> Mapping[str, tuple[str, Sequence[int]]]:
        """The name of a table and indices of its rows, by split."""
        labels = self._checked_labels() if self.task == "classification" else None
        contents = self._contents()
        rows: dict[str, tuple[str, Sequence[int]]] = {
            name: (name, range(len(found))) for name, found in contents.items()
        }
        if "val" not in rows:
            parts = split_by_seed(contents["train"], self._seed, classes=labels)
            rows |= {split: ("train", indices) for split, indices in parts.items()}
        places = {
            split: {contents[table][row]: self._where(table, row) for row in indices}
            for split, (table, indices) in rows.items()
        }
        check_disjoint(places)
        return {"pretrain": rows["train"], **rows}

    def _checked_labels(self) -> list[str]:
        """Return the class of each row of train, which val and test must have and no other."""
        for name, table in self._tables.items():
            table.targets(self._target, self._classes)
            if name in ("val", "test"):
                table.check_all_present(self._target, self._classes)
        return self._tables["train"].texts(self._target)

    def _shifted(self, name: str) -> TensorDataset:
        table = self._data.shift(name, self._columns())
        return self._cached(f"shift {name}", table, range(table.num_rows))

    def _cached(self, name: str, table: Table, indices: Sequence[int]) -> TensorDataset:
        """Return rows of a table as tensors, cached by name."""
        if name not in self._datasets:
            self._datasets[name] = self._encoded(name, table, indices)
        return self._datasets[name]

    def _note(self, name: str, note: str) -> None:
        """Keep and log a note on the rows of that name, unless it is known."""
        if note not in self._notes.values():
            self._notes[name] = note
            _log.warning(note)
