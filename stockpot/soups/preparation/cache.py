"""Prepared side information, kept by all that it was computed from, so that each is made once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.soups.preparation.options import Preparation
from stockpot.storage.checkpoints import load_tensors, save_checkpoint, verify
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec


def prepare(
    root: Path,
    workload: WorkloadSpec,
    model: Model,
    preparation: Preparation,
    *,
    seed: int,
    device: str,
) -> Mapping[str, Any]:
    """Return the side information about a model, computed unless it is kept already.

    Two that ask at once compute it once. Runs in a worker process.

    Args:
        root: the project root; the results are files in its `.stockpot/preparations`, since
            the folder of the model's own file belongs to the stage that made it. Their names
            begin with the digest of the weights.
        workload: whose train split is used.
        model: whose weights are looked at.
        preparation: what is computed, with its options.
        seed: of the choice of examples, and of what else is drawn.
        device: where it is computed.
    """
    key = content_key(
        digest=model.digest,
        preparation=repr(preparation),
        seed=seed,
        workload=workload.training_key_parts(),
        code=code_key(type(preparation).__module__, *workload.modules),
    )
    path = root / ".stockpot" / "preparations" / f"{model.digest}.{key}.safetensors"
    with Store(root).lock(key):
        if not path.is_file():
            weights = load_tensors(verify(root, model.checkpoint))
            computed = preparation.compute(workload.build(), weights, seed=seed, device=device)
            save_checkpoint(path, computed, {})
    return preparation.side_information(load_tensors(path))
