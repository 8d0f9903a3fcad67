"""Scores of the examples of train, kept by all that they come from: one computation a sweep."""

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
    """Return how hard each example of train is for a checkpoint, computed unless it is kept.

    Ingredients that are fine-tuned side by side wait for the first, which computes.

    Args:
        root: the project root; a file in its `.stockpot/preparations` is named by the digest of
            the weights, with which it goes.
        workload: has the examples.
        start: what a sweep starts from.
        how: says which score.
        device: where it is computed.

    Returns:
        Scores (N,), float32, on the CPU; higher is harder.
    """
    key = content_key(
        digest=start.digest,
        difficulty=how.difficulty,
        threads=torch.get_num_threads(),  # which change last bits, and so who comes first
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
