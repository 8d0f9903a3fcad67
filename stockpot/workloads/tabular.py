"""The tabular workload: classification or regression of the rows of a table.

Importing this module, building a `Tabular` and asking for its digest import no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from stockpot.errors import InputError, unknown_name
from stockpot.workloads.chosen_shifts import shifts_of_files, split_of_shifts
from stockpot.workloads.classification import accuracy, cross_entropies
from stockpot.workloads.files import digest_of, project_path
from stockpot.workloads.protocol import SPLITS, Batch, Metric, Shift, Task
from stockpot.workloads.splits import source_split
from stockpot.workloads.tables.reading import Table, find_shift, find_splits, read_table
from stockpot.workloads.tables.split_rows import rows_of_splits
from stockpot.workloads.tables.table_features import (
    TableFeatures,
    learn_features,
    row_contents,
    target_numbers,
)
from stockpot.workloads.texts.text_data import FolderData

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.utils.data import TensorDataset

_log = logging.getLogger("stockpot")

_TASKS: Mapping[str, Task] = MappingProxyType(
    {"classification": "classification", "regression": "regression"}
)
_NOISE = 0.2  # standard deviations of a feature
_VERSION = 1  # raise it when the splits or their features change: it is part of the digest


def minus_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative absolute error of each example, in the target's unit; (N,)."""
    return -(outputs - targets).abs()


class Tabular:
    """Rows of tables, split by their files or by the seed, with other files as shifts.

    Numbers are standardised by train's mean and deviation, and texts are one-hot over train's
    categories. The net is an MLP with BatchNorm; in regression its outputs are in the target's
    unit.

    Args:
        seed: fixes the splits, unless they are files.
        val_shifts: names of files next to those of the splits, which may be used for choices.
        test_shifts: names of further files, which are reported only; disjoint from `val_shifts`.
        data: a folder with the tables train, val and test (CSV, JSONL or Parquet), or train
            only; or one file.
        target: the column to predict.
        task: classification or regression.
        features: the columns to predict it from, comma-separated; by default all others.
        categorical: columns whose numbers are categories, comma-separated.
        hidden: units of each of the two hidden layers.

    Raises:
        InputError: a shift is named twice, a file is missing, or an option is out of range.
    """

    shift_names: ClassVar[tuple[str, ...] | None] = None
    task: Task
    metrics: Mapping[str, Metric]

    def __init__(  # noqa: PLR0913 (three of every workload, six of its own)
        self,
        seed: int,
        val_shifts: Sequence[str],
        test_shifts: Sequence[str],
        *,
        data: str,
        target: str,
        task: str = "classification",
        features: str = "",
        categorical: str = "",
        hidden: int = 64,
    ) -> None:
        if task not in _TASKS:
            raise unknown_name("task of the tabular workload", task, _TASKS)
        if hidden < 1:
            raise InputError(f"tabular: hidden must be at least 1, got {hidden}")
        self.task = _TASKS[task]
        by_task: Mapping[Task, dict[str, Metric]] = {
            "classification": {"accuracy": accuracy},
            "regression": {"minus_error": minus_error},
        }
        self.metrics = MappingProxyType(by_task[self.task])
        self._seed = seed
        self._shift_splits = split_of_shifts("tabular", val_shifts, test_shifts)
        self._data = FolderData(project_path(data))
        find_splits(self._data.path)
        for name in self._shift_splits:
            find_shift(self._data.path, name)
        self._target = target
        self._feature_columns = _names_in("features", features)
        self._categorical = _names_in("categorical", categorical)
        if target in self._feature_columns:
            raise InputError(f"tabular: features must not have the target, got {target!r}")
        self._hidden = hidden
        self._datasets: dict[str, TensorDataset] = {}
        self._notes: dict[Path, str] = {}

    def data_digest(self) -> str:
        """Return the SHA-256 (hex) of the splits' files and the seed."""
        return digest_of(data=self._data.digest(), seed=self._seed, version=_VERSION)

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the MLP, initialised from `generator` alone."""
        from stockpot.workloads.tables.mlp import build_mlp

        num_outputs = len(self._classes) if self.task == "classification" else 1
        return build_mlp(len(self._number_mask), self._hidden, num_outputs, generator)

    def dataset(self, split: str) -> TensorDataset:
        """Return features (N, D), float32, and targets (N,): classes, or float32 numbers.

        Raises:
            InputError: there is no such split; or a table is damaged, lacks a column, has a cell
                of another type or an unknown class; or val or test has an example of another
                split.
        """
        split = source_split("tabular", split, self._rows)
        table, indices = self._rows[split]
        return self._cached(split, self._tables[table], indices)

    def shifts(self) -> Mapping[str, Shift]:
        """Return the chosen shifts, each with the rows of the file of its name."""
        return shifts_of_files(self._shift_splits, self._shifted, self._data.shift_digest)

    def notes(self) -> list[str]:
        """Report columns of splits and shifts with missing cells or unknown categories."""
        for split in SPLITS:
            self.dataset(split)
        for name in self._shift_splits:
            self._shifted(name)
        return list(self._notes.values())

    def augment(self, batch: Batch, strength: float, generator: Generator) -> Batch:
        """Add Gaussian noise to numbers: 0.2 of their standard deviation at strength 1."""
        if strength == 0:
            return batch
        import torch

        features, targets = batch
        # Drawn on the CPU, so that every device sees the same bits.
        drawn = torch.randn(features.shape, generator=generator).to(features.device)
        return features + _NOISE * strength * self._number_mask.to(features.device) * drawn, targets

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits (N, C), or numbers in the target's unit (N,)."""
        outputs: Tensor = model(batch[0])
        if self.task == "classification":
            return outputs
        mean, scale = self._target_scale
        return mean + scale * outputs.squeeze(1)

    def loss(self, outputs: Tensor, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy, or squared error in train's deviations, of each row; (N,)."""
        if self.task == "classification":
            return cross_entropies(outputs, batch[-1], label_smoothing)
        return ((outputs - batch[-1]) / self._target_scale[1]).square()

    @cached_property
    def _tables(self) -> dict[str, Table]:
        """The table of each split that has a file, with the columns of train that are used."""
        paths = find_splits(self._data.path)
        columns = [*self._feature_columns, self._target] if self._feature_columns else None
        train = read_table(paths["train"], columns)
        if self._target not in train.columns:
            choices = sorted(train.columns)
            raise unknown_name(f"target column in {paths['train']}:", self._target, choices)
        if len(train.columns) < 2:
            raise InputError(
                f"{paths['train']}: must have a column besides {self._target!r}, got none"
            )
        others = {name: path for name, path in paths.items() if name != "train"}
        tables = {name: read_table(path, [*train.columns]) for name, path in others.items()}
        return {"train": train, **tables}

    @cached_property
    def _features(self) -> TableFeatures:
        train = self._tables["train"]
        columns = [column for column in train.columns if column != self._target]
        for column in self._categorical:
            if column not in columns:
                raise unknown_name("column in the option categorical", column, columns)
        return learn_features(train, columns, self._categorical)

    @cached_property
    def _number_mask(self) -> Tensor:
        """1 for each feature that is a number, 0 for all others; (D,)."""
        import torch

        return torch.from_numpy(self._features.number_mask)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return self._tables["train"].classes(self._target)

    @cached_property
    def _target_scale(self) -> tuple[float, float]:
        """Mean and standard deviation of train's targets."""
        values = target_numbers(self._tables["train"], self._target)
        return float(values.mean()), float(values.std()) or 1.0

    @cached_property
    def _rows(self) -> dict[str, tuple[str, Sequence[int]]]:
        """The table and the rows of each split."""
        tables, classes = self._tables, None
        if self.task == "classification":
            classes = tables["train"].texts(self._target)
            for name in {"val", "test"} & {*tables}:
                tables[name].targets(self._target, self._classes)
                tables[name].check_all_present(self._target, self._classes)
        contents = {name: row_contents(table) for name, table in tables.items()}
        return rows_of_splits(
            contents, lambda name, row: tables[name].where(row), self._seed, classes
        )

    def _shifted(self, name: str) -> TensorDataset:
        path = find_shift(self._data.path, name)
        table = read_table(path, [*self._tables["train"].columns])
        return self._cached(f"shift {name}", table, range(table.num_rows))

    def _cached(self, name: str, table: Table, indices: Sequence[int]) -> TensorDataset:
        """Return features and targets of rows of a table, cached by name."""
        if name not in self._datasets:
            self._datasets[name] = self._encoded(table, indices)
            self._note_gaps(table)
        return self._datasets[name]

    def _note_gaps(self, table: Table) -> None:
        gaps = "; ".join(self._features.notes(table))
        if gaps and table.path not in self._notes:
            self._notes[table.path] = f"{table.path}: {gaps}"
            _log.warning(self._notes[table.path])

    def _encoded(self, table: Table, indices: Sequence[int]) -> TensorDataset:
        import torch
        from torch.utils.data import TensorDataset

        rows = torch.tensor(indices)
        features = torch.from_numpy(self._features.encode(table))[rows]
        if self.task == "classification":
            targets = torch.tensor(table.targets(self._target, self._classes))
        else:
            targets = torch.from_numpy(target_numbers(table, self._target)).float()
        return TensorDataset(features, targets[rows])


def _names_in(option: str, text: str) -> list[str]:
    """Return the comma-separated names of an option."""
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"tabular: {option} must name each column once, got {name!r} twice")
    return names
