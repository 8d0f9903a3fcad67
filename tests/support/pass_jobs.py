"""Forward passes that tests run in worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.scoring import cached_passes, shared_passes, val_scores
from stockpot.scoring.shared_passes import SharedSet
from stockpot.scoring.shared_weights import SentTensor
from stockpot.storage.models import Model
from stockpot.workloads import passes
from stockpot.workloads.open_sets import open_examples
from stockpot.workloads.passes import Examples, empty_model
from stockpot.workloads.spec import WorkloadSpec

T = TypeVar("T")
BATCH = 60


def open_in_small_batches(spec: WorkloadSpec, set_name: str, device: str) -> Examples:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_BATCH", BATCH)
        return open_examples(spec.build(), set_name, device)


def in_small_batches(
    function: Callable[..., T], job: object, seconds: float, device: str
) -> tuple[T, int]:
    """Do a job whose passes are shared; return its result, and the tensors from elsewhere.

    Each batch that is done here takes some seconds more, so that other workers can come.
    """
    came: list[SentTensor] = []

    def noted(sent: SentTensor, device: torch.device) -> Tensor:
        came.append(sent)
        return unpack(sent, device)

    def slow(compute: Callable[..., T]) -> Callable[..., T]:
        def slowly(*arguments: object) -> T:
            time.sleep(seconds)
            return compute(*arguments)

        return slowly

    unpack = SentTensor.on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SentTensor, "on", noted)
        patch.setattr(Examples, "of_batch", slow(Examples.of_batch))
        patch.setattr(Examples, "outputs_of_part", slow(Examples.outputs_of_part))
        for module in (cached_passes, shared_passes):
            patch.setattr(module, "_WORTH_SECONDS", 0.0)
        patch.setattr(passes, "_BATCH", BATCH)
        patch.setattr(val_scores, "open_val_set", open_in_small_batches)
        return function(job, device), len(came)


def pass_over_val(spec: WorkloadSpec, device: str) -> tuple[bytes, bytes]:
    """Return the outputs and losses of one model on val."""
    examples = open_in_small_batches(spec, "val", device)
    shared = SharedSet(spec, "val", open_in_small_batches)
    outputs, losses = shared.outputs_and_losses(examples, empty_model(spec.build(), device))
    return outputs.numpy().tobytes(), losses.numpy().tobytes()


def pass_over_block(spec: WorkloadSpec, device: str) -> tuple[bytes]:
    """Return the outputs of one model for every second example of val."""
    examples = open_in_small_batches(spec, "val", device)
    shared = SharedSet(spec, "val", open_in_small_batches)
    indices = torch.arange(0, len(examples.targets), 2)
    outputs = shared.outputs_of(examples, empty_model(spec.build(), device), indices)
    assert torch.equal(outputs, examples.outputs(empty_model(spec.build(), device))[indices])
    return (outputs.numpy().tobytes(),)


def search(job: TuningJob, device: str) -> Model:
    return job.work(device)
