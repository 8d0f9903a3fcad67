"""Masks of task vectors that are drawn while these are measured, and used when they are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stockpot.merging.draws import Draws
from stockpot.merging.methods.task_vectors import l1_ratio
from stockpot.merging.runs import Run, Runs


@dataclass(frozen=True, slots=True)
class MeasuredMask:
    """The mask of a task vector.

    Attributes:
        ratio: the factor that restores the sum of magnitudes.
        bits: of each run, 8 entries in a byte.
        size: the number of entries of a run; the last one may be shorter.
    """

    ratio: float
    bits: Sequence[NDArray[np.uint8]]
    size: int

    def applied(self, task_vector: Tensor, start: int) -> Tensor:
        """Return the task vector, or the part of it from `start` on, masked and rescaled."""
        first, end = start // self.size, -(-(start + task_vector.numel()) // self.size)
        runs = [np.unpackbits(bits, count=self.size) for bits in self.bits[first:end]]
        entries = np.concatenate([np.empty(0, np.uint8), *runs])[start - first * self.size :]
        mask = torch.from_numpy(entries[: task_vector.numel()]).to(task_vector.device)
        return mask.to(task_vector.dtype).view(task_vector.shape).mul_(task_vector).mul_(self.ratio)


def apply_masks(
    masks: Sequence[MeasuredMask], tensors: Sequence[Tensor], base: Tensor, start: int
) -> Iterator[Tensor]:
    """Yield the task vectors, or their parts from `start` on, masked and rescaled."""
    for mask, tensor in zip(masks, tensors, strict=True):
        yield mask.applied(tensor - base, start)


def measure_mask(runs: Runs, draw: Callable[[Run, int], NDArray[np.bool_]]) -> list[MeasuredMask]:
    """Draw the masks of all models.

    Args:
        runs: M models.
        draw: (run, model) -> whether each entry of the task vector is kept, flat.
    """

    def of_run(run: Run) -> list[tuple[float, float, Any]]:
        found = []
        for model in range(runs.num_models):
            kept, magnitudes = draw(run, model), run.vectors[model].abs()
            before = float(magnitudes.sum())
            after = float(magnitudes.mul_(Draws.mask(kept, magnitudes)).sum())
            found.append((before, after, np.packbits(kept)))
        return found

    found = list(runs.map(of_run))
    masks = []
    for model in range(runs.num_models):
        of_model = [of_models[model] for of_models in found]
        before, after = (sum(one[norm] for one in of_model) for norm in (0, 1))
        bits = [one[2] for one in of_model]
        masks.append(MeasuredMask(l1_ratio(before, after), bits, runs.run_size))
    return masks
