"""Runs that die in their middle and go on from what they had saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.finetuning.loop import fine_tune
from stockpot.ingredients.finetuning.partial_state import PartialState
from stockpot.workloads.protocol import Workload


class Killed(BaseException):
    """Stands for the end of the process."""


def _die(epoch: int, weights: Callable[[], object]) -> None:  # noqa: ARG001
    raise Killed


def train_killed(workload: Workload, how: Hyperparameters, folder: Path) -> dict[str, Tensor]:
    """Train on pretrain until the last step of the first epoch, die, and go on."""
    partial = PartialState(folder / "state.safetensors", every_seconds=0)
    with pytest.raises(Killed):
        fine_tune(workload, None, how, split="pretrain", partial=partial, on_epoch=_die)
    assert partial.path.is_file()
    return dict(fine_tune(workload, None, how, split="pretrain", partial=partial))
