"""Val scores of models by groups of examples: the classes of val, and the val shifts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stockpot.scoring.predictions import load_outputs, load_targets, val_sets
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec


def group_scores(
    root: Path, workload: WorkloadSpec, models: Sequence[Model]
) -> dict[str, list[float]]:
    """Return the mean of the first metric on each group, from cached predictions.

    Args:
        root: the project root.
        workload: the data; of a classification, each class of val is a group.
        models: the models, which have been scored on val.

    Returns:
        By the name of a group (`class 3`, `val_shift/noise`), the score of each model.
    """
    built = workload.build()
    compute = next(iter(built.metrics.values()))
    found: dict[str, list[float]] = {}
    for set_name in val_sets(workload):
        targets = load_targets(root, workload, set_name)
        values = [
            compute(load_outputs(root, workload, model.digest, set_name), targets).double()
            for model in models
        ]
        if set_name != "val":
            found[set_name] = [each.mean().item() for each in values]
        elif built.task == "classification":
            for label in sorted({*targets.tolist()}):
                found[f"class {label}"] = [each[targets == label].mean().item() for each in values]
    return found
