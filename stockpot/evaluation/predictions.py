"""Kept predictions: the outputs of every model on every split, each computed once.

This is the one place, with `judge.py`, where the test split and the test shifts are opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from stockpot.checkpoints import Checkpoint, load_tensors, save_checkpoint, verify
from stockpot.evaluation.outputs import Examples, empty_model, put_weights
from stockpot.keys import content_key
from stockpot.workloads.protocol import Workload
from stockpot.workloads.spec import WorkloadSpec


def predictions_path(root: Path, workload: WorkloadSpec, digest: str) -> Path:
    """Return where the predictions of the weights with this digest are kept."""
    key = content_key(digest=digest, **workload.scoring_inputs())
    return root / ".stockpot" / "predictions" / f"{key}.safetensors"


def predict(root: Path, workload: WorkloadSpec, checkpoint: Checkpoint, device: str) -> Path:
    """Compute a model's outputs on val, test and every shift, unless they are kept already.

    Runs in a worker process.

    Returns:
        A safetensors file of outputs (N, C), named `val`, `test` and `<split>_shift/<name>`.
    """
    path = predictions_path(root, workload, checkpoint.digest)
    if path.is_file():
        return path
    model = empty_model(workload.build(), device)
    weights = load_tensors(verify(root, checkpoint))
    put_weights(model, {name: tensor.to(device) for name, tensor in weights.items()})
    outputs = {
        name: examples.outputs(model) for name, examples in judged_sets(workload.build(), device)
    }
    save_checkpoint(path, outputs, {})
    return path


def judged_sets(workload: Workload, device: str) -> Iterator[tuple[str, Examples]]:
    """Yield all that models are judged on, one at a time: val, test, then every shift."""
    for split in ("val", "test"):
        yield split, Examples(workload, workload.dataset(split), device)
    for name, shift in workload.shifts().items():
        yield f"{shift.split}_shift/{name}", Examples(workload, shift.dataset(), device)


def load_predictions(path: Path) -> dict[str, Tensor]:
    """Read kept predictions."""
    return load_tensors(path)
