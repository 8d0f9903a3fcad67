"""The tabular workload: classification or regression of the rows of a table.

Importing this module, building a `Tabular` and asking for its digest import no torch.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.errors import InputError, unknown_name
from stockpot.workloads.classification import accuracy, cross_entropies
from stockpot.workloads.files import project_path
from stockpot.workloads.metric_ranges import values_in
from stockpot.workloads.protocol import Batch, Metric, Task
from stockpot.workloads.tables.reading import Table, find_splits, read_table
from stockpot.workloads.tables.table_features import (
    TableFeatures,
    learn_features,
    row_contents,
    target_numbers,
)
from stockpot.workloads.tables.table_workload import TableWorkload
from stockpot.workloads.texts.text_data import FolderData, open_folder

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.utils.data import TensorDataset

_NOISE = 0.2  # standard deviations of a feature


@values_in(-math.inf, 0)
def minus_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative absolute error of each example, in the target's unit; (N,)."""
    return -(outputs - targets).abs()


_TASKS: Mapping[str, tuple[Task, Mapping[str, Metric]]] = MappingProxyType(
    {
        "classification": ("classification", MappingProxyType({"accuracy": accuracy})),
        "regression": ("regression", MappingProxyType({"minus_error": minus_error})),
    }
)


class Tabular(TableWorkload):
    """Rows of tables, split by their files or by the seed, with other files as shifts.

    Numbers are standardised by train's mean and deviation, and texts are one-hot over train's
    categories. The net is an MLP with BatchNorm; in regression its outputs are in the target's
    unit. `dataset` has features (N, D), float32, and targets (N,): classes, or float32 numbers.

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
        hidden: units per hidden layer; there are two.

    Raises:
        InputError: a shift is named twice, a file is missing, or an option is out of range.
    """

    name = "tabular"
    version = 1
    metrics: Mapping[str, Metric]
    _data: FolderData

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
        self.task, self.metrics = _TASKS[task]
        super().__init__(seed, val_shifts, test_shifts)
        self._data = open_folder(project_path(data), self._shift_splits)
        self._target = target
        self._feature_columns = _names_in("features", features)
        self._categorical = _names_in("categorical", categorical)
        if target in self._feature_columns:
            raise InputError(f"tabular: features must not have the target, got {target!r}")
        self._hidden = hidden

    def build_model(self, generator: Generator) -> nn.Module:
        """Build the MLP, initialised from `generator` alone."""
        from stockpot.workloads.initialisation import initialised
        from stockpot.workloads.tables.mlp import Mlp

        num_features = len(self._number_mask)
        num_outputs = len(self._classes) if self.task == "classification" else 1
        return initialised(lambda: Mlp(num_features, self._hidden, num_outputs), generator)

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
    def _tables(self) -> Mapping[str, Table]:
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
    def _target_scale(self) -> tuple[float, float]:
        """Mean and standard deviation of train's targets."""
        values = target_numbers(self._tables["train"], self._target)
        return float(values.mean()), float(values.std()) or 1.0

    def _columns(self) -> Sequence[str]:
        return [*self._tables["train"].columns]

    def _contents(self) -> Mapping[str, Sequence[Hashable]]:
        return {name: row_contents(table) for name, table in self._tables.items()}

    def _encoded(self, name: str, table: Table, indices: Sequence[int]) -> TensorDataset:
        import torch
        from torch.utils.data import TensorDataset

        rows = torch.tensor(indices)
        features = torch.from_numpy(self._features.encode(table))[rows]
        if gaps := "; ".join(self._features.notes(table)):
            self._note(name, f"{table.path}: {gaps}")
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
