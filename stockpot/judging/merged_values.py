"""Per-example metric values of models that are merged only to be measured; computed once.

Neither weights nor outputs of such models are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stockpot.errors import InputError
from stockpot.judging.test_sets import open_set, test_sets
from stockpot.scoring.cached_passes import CachedPasses, run_pass
from stockpot.scoring.key_parts import outputs_key_parts
from stockpot.scoring.predictions import MERGED
from stockpot.scoring.shared_passes import SharedSet
from stockpot.scoring.shift_means import are_copies, mean_over_shifts
from stockpot.soups.preparation.recalibration import Recalibration
from stockpot.statistics.values import Floats
from stockpot.storage.checkpoints import load_tensors, save_checkpoint
from stockpot.storage.code_keys import code_key
from stockpot.storage.keys import content_key
from stockpot.workloads.passes import empty_model, put_weights
from stockpot.workloads.spec import WorkloadSpec

MERGING_MODULES = (
    "stockpot.judging.random_soups",
    "stockpot.judging.wise_ft",
    "stockpot.soups.alignment.repaired",
)
"""The modules that merge the models whose values are cached here, and call this one."""


def cache_values(
    root: Path,
    workload: WorkloadSpec,
    merges: Sequence[Any],
    merged: Iterable[tuple[Mapping[str, Tensor], int]],
    device: str,
) -> None:
    """Measure merged models on val, test and the test shifts, unless their values are cached.

    Args:
        root: the project root.
        workload: its sets and its first metric are used.
        merges: recipe of each model as JSON; part of the cache key.
        merged: by each recipe the model's tensors, on the device, and the number of models that
            they are made of, 1 if they are repaired already; read only if values are missing. The
            next one may overwrite the memory of the tensors.
        device: for forward passes.
    """
    paths = {name: values_path(root, workload, merges, name) for name in judged_sets(workload)}
    missing = {name: path for name, path in paths.items() if _read(path) is None}
    if not missing:
        return
    built = workload.build()
    passes = CachedPasses(root, workload, device)
    model, recalibrated = empty_model(built, device), Recalibration(built, device)
    opened = {name: open_set(workload, name, device) for name in missing}
    values: dict[str, list[Tensor]] = {name: [] for name in missing}
    for place, (weights, num_models) in enumerate(merged):
        first = merges.index(merges[place])
        if first < place:  # equal merges are measured once
            for measured in values.values():
                measured.append(measured[first])
            continue
        finished = recalibrated(weights, num_models)
        put_weights(model, finished)
        for name, examples in opened.items():
            shared = SharedSet(workload, name, open_set)
            run = partial(run_pass, built, examples, model, shared)
            done = passes.get_or_run(name, finished, run)
            values[name].append(done.values.float())
    for name, path in missing.items():
        save_checkpoint(path, {"values": torch.stack(values[name])}, {})


def load_values(root: Path, workload: WorkloadSpec, merges: Sequence[Any]) -> dict[str, Floats]:
    """Return cached values by place, `val`, `test` and `shift`; (models, N) each.

    Raises:
        InputError: they are not cached.
    """

    def load(name: str) -> Floats:
        values = _read(values_path(root, workload, merges, name))
        if values is None:
            raise InputError(
                f"values of merged models on {name}: must be cached, got none; "
                "run `stockpot evaluate`"
            )
        return values

    val, test, *shifts = (load(name) for name in judged_sets(workload))
    copies = are_copies(workload, workload.test_shifts)
    return {"val": val, "test": test} | (
        {"shift": mean_over_shifts(shifts, copies)} if shifts else {}
    )


def judged_sets(workload: WorkloadSpec) -> tuple[str, ...]:
    """Return the names of the sets that merged models are measured on: val, test, test shifts."""
    return ("val", *test_sets(workload))


def values_path(root: Path, workload: WorkloadSpec, merges: Sequence[Any], set_name: str) -> Path:
    """Return the cache file of the values of merged models on a set."""
    metric = next(iter(workload.build().metrics))
    inputs = {"merges": merges, "metric": metric, "code": code_key(*MERGING_MODULES)}
    key = content_key(merged=inputs, outputs=outputs_key_parts(workload, set_name))
    return root / ".stockpot" / "predictions" / f"{MERGED}.{key}.safetensors"


def _read(path: Path) -> Floats | None:
    """Return cached values in float64; None if they are missing or damaged."""
    try:
        return np.asarray(load_tensors(path)["values"].double())
    except InputError:
        return None
