"""Cache of prepared statistics, keyed by everything that they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.soups.preparation.protocol import Preparation
from stockpot.storage.checkpoints import load_tensors, save_checkpoint, verify
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.workloads.spec import WorkloadSpec


def prepare(  # noqa: PLR0913 (what it depends on)
    root: Path,
    workload: WorkloadSpec,
    model: Model,
    preparation: Preparation,
    *,
    base: Model,
    seed: int,
    device: str,
) -> Mapping[str, Any]:
    """Return the side information about a model, from the cache if it is there.

    Concurrent calls compute it once. Runs in a worker process.

    Args:
        root: the project root. The cache is in its `.stockpot/preparations`, not next to the
            model, whose folder belongs to the stage that made it. File names begin with the
            digest of the weights.
        workload: provides the train split.
        model: the model to compute statistics of.
        preparation: the computation, with its options.
        base: the model that it was fine-tuned from.
        seed: seed of the choice of examples, and of other random numbers.
        device: where it is computed.
    """
    used = {"base": base.digest} if preparation.uses_base else {}
    key = content_key(
        **used,
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
            start = load_tensors(verify(root, base.checkpoint)) if used else None
            computed = preparation.compute(
                workload.build(), weights, seed=seed, device=device, base=start
            )
            save_checkpoint(path, computed, {})
    return preparation.side_information(load_tensors(path))
