"""Forward passes that tests run in worker processes."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from stockpot.scoring import shared_passes
from stockpot.scoring.shared_passes import SharedSet
from stockpot.scoring.shared_weights import SentTensor
from stockpot.workloads import passes
from stockpot.workloads.open_sets import open_examples
from stockpot.workloads.passes import Examples, empty_model
from stockpot.workloads.spec import WorkloadSpec


def open_in_small_batches(spec: WorkloadSpec, set_name: str, device: str) -> Examples:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "_BATCH", 20)
        return open_examples(spec.build(), set_name, device)


def pass_over_val(spec: WorkloadSpec, is_shared: bool, device: str) -> tuple[bytes, bytes, bool]:
    """Return the outputs and losses of one model, and whether another worker computed some."""
    examples = open_in_small_batches(spec, "val", device)
    model = empty_model(spec.build(), device)
    shared = SharedSet(spec, "val", open_in_small_batches)
    came: list[SentTensor] = []

    def noted(sent: SentTensor, device: torch.device) -> Tensor:
        came.append(sent)
        return unpack(sent, device)

    def slow(examples: Examples, model: nn.Module, place: int) -> tuple[Tensor, Tensor]:
        time.sleep(0.02 * is_shared)  # so that the other worker can come
        return compute(examples, model, place)

    unpack, compute = SentTensor.on, Examples.of_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_passes, "_WORTH_SECONDS", 0.0 if is_shared else 1e9)
        patch.setattr(SentTensor, "on", noted)
        patch.setattr(Examples, "of_batch", slow)
        outputs, losses = shared.outputs_and_losses(examples, model)
    return outputs.numpy().tobytes(), losses.numpy().tobytes(), bool(came)
