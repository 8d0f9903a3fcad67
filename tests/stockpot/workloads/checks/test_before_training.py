"""Errors in data that a run refuses before it trains."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset
from toy_workload import Toy

from stockpot.errors import InputError
from stockpot.workloads.checks.before_training import check_data, data_problem
from stockpot.workloads.checks.data_errors import shared_examples
from stockpot.workloads.digits import Digits
from stockpot.workloads.protocol import Batch
from stockpot.workloads.spec import WorkloadSpec

REFUSED = {
    "Empty": r"'val'\): must have 2 examples at least, got 0",
    "NotANumber": r"'val'\): numbers must be finite",
    "NoClass": r"'train'\): targets must be in \[0, 2\)",
    "MissingClass": "every class of val",
    "Leak": r"'val'\): must share no example with other splits, got 8 of 24",
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_that_cannot_be_trained_or_chosen_on_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=REFUSED[name]) as refused:
        check_data(WorkloadSpec(f"broken_workloads:{name}", 0), "cpu")

    assert str(refused.value).startswith(f"workload 'broken_workloads:{name}': dataset(")


def test_test_stays_closed() -> None:
    assert data_problem(Toy(0, ("far",), ("further",), closed="test")) is None


def test_a_built_in_workload_is_not_refused() -> None:
    assert data_problem(Digits(0, ("blur",), ("noise",))) is None


@pytest.mark.parametrize(("num_doubles", "is_refused"), [(0, False), (1, False), (2, True)])
def test_one_example_of_val_in_a_hundred_may_stand_in_train(
    num_doubles: int, is_refused: bool
) -> None:
    train = torch.arange(100)
    val = torch.arange(100 - num_doubles, 200 - num_doubles)
    examples = {"train": [(train, train)], "val": [(val, val)]}

    problem = shared_examples(examples, tolerated=0.01)

    assert (problem is not None) == is_refused


def test_examples_that_differ_in_the_target_alone_are_not_doubles() -> None:
    points = torch.zeros(3, 2)
    examples = {
        "train": [(points, torch.zeros(3).long())],
        "val": [(points, torch.ones(3).long())],
    }

    assert shared_examples(examples, tolerated=0.0) is None


class _Files(Dataset[Batch]):
    """A data set that is read example by example, and counts how often."""

    def __init__(self, points: torch.Tensor, targets: torch.Tensor) -> None:
        self.examples = TensorDataset(points, targets)
        self.num_read = 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Batch:
        self.num_read += 1
        return self.examples[index]


def test_a_data_set_that_may_read_files_is_sampled() -> None:
    made: dict[str, _Files] = {}

    class OfFiles(Toy):
        def dataset(self, split: str) -> _Files:  # type: ignore[override]
            points, targets = super().dataset(split).tensors
            many = points.repeat(5000, 1) + torch.arange(5000 * len(points))[:, None]
            return made.setdefault(split, _Files(many, targets.repeat(5000)))

    problem = data_problem(OfFiles(0, (), ()))

    assert problem is None
    assert {split: files.num_read < 1000 for split, files in made.items()} == dict.fromkeys(
        ("pretrain", "train", "val"), True
    )
