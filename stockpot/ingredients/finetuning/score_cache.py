"""Cache of the difficulty scores of train's examples, so that a sweep computes them once."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stockpot.ingredients.finetuning.data_pruning import difficulty_scores
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.storage.checkpoints import Checkpoint, load_tensors, save_checkpoint, verify
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec


def train_scores(
    root: Path, workload: WorkloadSpec, start: Checkpoint, how: Hyperparameters, device: str
) -> Tensor:
    """Return the difficulty of each example of train for a checkpoint, computed unless cached.

    Of concurrent fine-tuning runs, the first computes and the others wait for it.

    Args:
        root: the project root. The cache file, in `.stockpot/preparations`, is named after the
            digest of the weights, so that it is deleted with them.
        workload: has the examples.
        start: the checkpoint that the sweep starts from.
        how: has the kind of score.
        device: where to compute.

    Returns:
        Scores (N,), float32, on the CPU; higher is harder.
    """
    key = content_key(
        digest=start.digest,
        difficulty=how.difficulty,
        threads=torch.get_num_threads(),  # changes last bits, and so the order of examples
        code=code_key(difficulty_scores.__module__, *workload.modules),
        **workload.training_key_parts(),
    )
    path = root / ".stockpot" / "preparations" / f"{start.digest}.{key}.safetensors"
    with Store(root).lock(key):
        if not path.is_file():
            weights = load_tensors(verify(root, start))
            built = workload.build()
            scores = difficulty_scores(built, weights, how, split="train", device=device)
            save_checkpoint(path, {"scores": scores}, {})
    return load_tensors(path)["scores"]
