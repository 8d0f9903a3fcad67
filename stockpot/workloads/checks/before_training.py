"""What `stockpot run` looks for before it trains: errors in data that it would not notice later."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.workloads.checks.data_errors import (
    doubled_examples,
    targets_that_do_not_fit,
    too_few_examples,
    values_that_are_not_finite,
)
from stockpot.workloads.checks.examples import parts_of, sample
from stockpot.workloads.protocol import Batch, Workload
from stockpot.workloads.spec import WorkloadSpec

# Not test: the evaluation alone opens it.
_OPENED = ("pretrain", "train", "val")

# Texts become equal when they are cut, rows when they are rounded: a few change no score by more.
_TOLERATED = 0.01

_FEW = 4  # examples of which a model's outputs have their shape


def check_data(workload: WorkloadSpec, device: str) -> None:  # noqa: ARG001 (a job has a device)
    """Raise an error for data that cannot be trained or chosen on; runs in a worker process.

    Raises:
        InputError: a split has too few examples; a number is not finite; a target does not fit the
            model's outputs; train lacks a class of val; or val shares examples with train.
    """
    if problem := data_problem(workload.build()):
        raise InputError(
            f"workload {workload.name!r}: {problem}; `stockpot check` runs all further checks"
        )


def data_problem(workload: Workload) -> str | None:
    """Return what is wrong with the data for training and for choices, and what to change.

    It is what `stockpot check` looks for, with two differences, for the sake of a second:
    of data sets that are no `TensorDataset`, and so may read a file an example, a sample is looked
    at; and one example of val in a hundred may stand in train.
    """

    def examples(split: str) -> Iterable[Batch]:
        dataset = workload.dataset(split)
        return parts_of(dataset) if isinstance(dataset, TensorDataset) else [sample(dataset)]

    return (
        too_few_examples({split: workload.dataset(split) for split in _OPENED})
        or values_that_are_not_finite(examples, _OPENED)
        or targets_that_do_not_fit(workload.task, _outputs(workload), examples, _OPENED)
        or doubled_examples(examples, _OPENED, _TOLERATED)
    )


def _outputs(workload: Workload) -> Tensor:
    """Return what a fresh model puts out for a few examples of train."""
    few = tuple(tensor[:_FEW] for tensor in sample(workload.dataset("train")))
    model = workload.build_model(seeded_generator("check before training")).eval()
    with torch.no_grad():
        return workload.forward(model, few)
