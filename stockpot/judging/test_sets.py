"""Test and its shifts: their names, and the only functions that open them.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stockpot.scoring.predictions import load_outputs, load_targets, predict
from stockpot.storage.checkpoints import Checkpoint
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.statistics.values import Floats
    from stockpot.workloads.passes import Examples


def test_sets(workload: WorkloadSpec) -> tuple[str, ...]:
    """Return the names of test and its shifts, as predictions are cached by."""
    return ("test", *workload.shift_sets("test"))


test_sets.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def open_set(workload: WorkloadSpec, set_name: str, device: str) -> Examples:
    """Open any set, test and its shifts included, on a device."""
    from stockpot.workloads.open_sets import open_examples

    return open_examples(workload.build(), set_name, device)


def predict_on_sets(
    root: Path, workload: WorkloadSpec, checkpoint: Checkpoint, device: str, sets: Sequence[str]
) -> None:
    """Cache a model's predictions on any sets, test and its shifts included.

    Raises:
        InputError: predictions are missing, and the weights are missing or damaged.
    """
    predict(root, workload, checkpoint, device, sets, open_set=open_set)


def cached_values(root: Path, workload: WorkloadSpec, digest: str, set_name: str) -> Floats:
    """Return per-example values (N,) of the first metric from cached predictions, in float64.

    Raises:
        InputError: the predictions are not cached, or the file is damaged.
    """
    compute = next(iter(workload.build().metrics.values()))
    outputs = load_outputs(root, workload, digest, set_name)
    values: Floats = compute(outputs, load_targets(root, workload, set_name)).double().numpy()
    return values
