"""The check of `stockpot run` before training: data errors that would go unnoticed later."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from stockpot.errors import InputError
from stockpot.seeding import seeded_generator
from stockpot.workloads.checks.data_errors import (
    Examples,
    non_finite_values,
    shared_examples,
    too_few_examples,
    unfit_targets,
)
from stockpot.workloads.checks.examples import parts_of, sample
from stockpot.workloads.protocol import Workload, splits_of
from stockpot.workloads.spec import WorkloadSpec

# Cut texts and rounded rows may be equal by chance; this share cannot change a score by more.
_TOLERATED = 0.01

_FEW = 4  # examples, enough to see the shape of outputs


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

    These are checks of `stockpot check`, with two differences to keep them fast: a dataset that is
    not a `TensorDataset`, and so may read one file per example, is sampled; and one example of val
    in a hundred may also be in train.
    """
    # Test is opened by the evaluation only.
    opened = [split for split in splits_of(workload) if split != "test"]
    datasets = {split: workload.dataset(split) for split in opened}

    def examples() -> Examples:
        return {
            split: parts_of(dataset) if isinstance(dataset, TensorDataset) else [sample(dataset)]
            for split, dataset in datasets.items()
        }

    return (
        too_few_examples(datasets)
        or non_finite_values(examples())
        or unfit_targets(workload.task, _outputs(workload), examples())
        or shared_examples(examples(), _TOLERATED)
    )


def _outputs(workload: Workload) -> Tensor:
    """Return the outputs of a new model for a few examples of train."""
    few = tuple(tensor[:_FEW] for tensor in sample(workload.dataset("train")))
    model = workload.build_model(seeded_generator("check before training")).eval()
    with torch.no_grad():
        return workload.forward(model, few)
