"""All metrics of one model on all sets, with their means over the shifts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from torch import Tensor

from stockpot.scoring.metrics import TaskMetric
from stockpot.scoring.shift_means import mean_over_shifts
from stockpot.statistics.values import Floats, are_fractions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of one model, by flat names `<place>/<metric>`.

    A place is a set (`val`, `val_shift/<name>`, `test`, `shift/<name>`) or a mean over shifts
    (`val_shift/mean`, `shift/mean`).

    Attributes:
        values: in the metric's own unit; all finite.
        per_example: values (N,) of the metrics that are means over examples.
    """

    values: dict[str, float] = field(default_factory=dict)
    per_example: dict[str, Floats] = field(default_factory=dict)

    def add(
        self, place: str, metrics: Iterable[TaskMetric], outputs: Tensor, targets: Tensor
    ) -> None:
        """Add metrics of outputs (N, ...) in a place, except NaN and infinite values."""
        for metric in metrics:
            name = f"{place}/{metric.name}"
            if metric.per_example is None:
                value = metric.value(outputs, targets)
            else:
                each: Floats = metric.per_example(outputs, targets).double().numpy()
                value = float(each.mean())
                if math.isfinite(value):
                    self.per_example[name] = each
            if math.isfinite(value):
                self.values[name] = value

    def add_means(self, prefix: str, shifts: Sequence[str], are_copies: Sequence[bool]) -> None:
        """Add the mean over shifts, `<prefix>/mean`, of each metric that all shifts have."""
        for metric, values in _in_all(self.values, prefix, shifts).items():
            self.values[f"{prefix}/mean/{metric}"] = float(np.mean(values))
        for metric, arrays in _in_all(self.per_example, prefix, shifts).items():
            self.per_example[f"{prefix}/mean/{metric}"] = mean_over_shifts(arrays, are_copies)


def which_are_fractions(
    metrics: Mapping[str, TaskMetric], scores: Iterable[Scores]
) -> dict[str, bool]:
    """Report for each metric whether it is a fraction, which is written in percent.

    A metric that does not declare it is one if all per-example values of all models in all places
    lie in [0, 1].
    """
    per_example = [of_model.per_example for of_model in scores]

    def has_fractions(metric: str) -> bool:
        return all(
            are_fractions(values)
            for of_model in per_example
            for name, values in of_model.items()
            if name.rpartition("/")[2] == metric
        )

    return {
        name: has_fractions(name) if metric.is_fraction is None else metric.is_fraction
        for name, metric in metrics.items()
    }


def shown(set_name: str) -> str:
    """Return the name of a set in the names of metrics: a test shift is `shift/<name>`."""
    return set_name.removeprefix("test_") if set_name.startswith("test_shift/") else set_name


def _in_all(of: Mapping[str, T], prefix: str, shifts: Sequence[str]) -> dict[str, list[T]]:
    """Return the values per shift of each metric that all shifts have, by metric."""
    places = [f"{prefix}/{shift}/" for shift in shifts]
    metrics = [n.removeprefix(place) for place in places[:1] for n in of if n.startswith(place)]
    return {
        metric: [of[f"{place}{metric}"] for place in places]
        for metric in metrics
        if all(f"{place}{metric}" in of for place in places)
    }
