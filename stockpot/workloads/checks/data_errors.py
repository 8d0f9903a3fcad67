"""Errors in data that would spoil training or scores without an error message.

`stockpot check` searches all examples for them, `stockpot run` does so before training.
Each function returns what is wrong and what to change, or None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stockpot.workloads.batches import num_examples
from stockpot.workloads.checks.examples import digests
from stockpot.workloads.protocol import Batch, Task

Examples: TypeAlias = Mapping[str, Iterable[Batch]]
"""The examples of each split, in batches; each function reads them once."""

_FEWEST = 2  # examples per split: an interval needs two


def too_few_examples(datasets: Mapping[str, Dataset[Any]]) -> str | None:
    """Find splits with fewer than two examples."""
    for split, dataset in datasets.items():
        if (number := num_examples(dataset)) < _FEWEST:
            return f"dataset({split!r}): must have {_FEWEST} examples at least, got {number}"
    return None


def shared_examples(examples: Examples, tolerated: float) -> str | None:
    """Find examples of val or test that are in another split; pretrain may overlap train.

    Args:
        examples: of the splits to check.
        tolerated: the share of a split's examples that may be shared, in [0, 1).
    """
    first_seen: dict[bytes, str] = {}
    for split, parts in examples.items():
        found = [digest for part in parts for digest in digests(part)]
        shared = [number for number, digest in enumerate(found) if digest in first_seen]
        if split in ("val", "test") and len(shared) > tolerated * len(found):
            first = shared[0]
            return (
                f"dataset({split!r}): must share no example with other splits, got {len(shared)} "
                f"of {len(found)} that do, such as {split}[{first}], which is "
                f"{first_seen[found[first]]}; keep equal examples in one split"
            )
        first_seen |= {digest: f"{split}[{number}]" for number, digest in enumerate(found)}
    return None


def non_finite_values(examples: Examples) -> str | None:
    """Find NaN and infinity in inputs and targets."""
    for split, parts in examples.items():
        for part in parts:
            for position, tensor in enumerate(part):
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    return (
                        f"dataset({split!r}): numbers must be finite, got NaN or infinity in "
                        f"tensor {position} of an example; fill or drop missing values"
                    )
    return None


def unfit_targets(task: Task, outputs: Tensor, examples: Examples) -> str | None:
    """Find targets that do not fit the outputs, and classes that train lacks.

    Args:
        task: the meaning of outputs and targets.
        outputs: outputs for a few examples, (n, C) or (n, ...).
        examples: of the splits to check, with train.
    """
    targets = {split: [part[-1] for part in parts] for split, parts in examples.items()}
    for split, batches in targets.items():
        for batch in batches:
            if problem := _PROBLEMS[task](batch, outputs):
                return f"dataset({split!r}): {problem}"
    return _classes_train_lacks(targets) if task == "classification" else None


def _class_problem(targets: Tensor, outputs: Tensor) -> str | None:
    if targets.dtype != torch.int64 or targets.ndim != 1:
        return (
            f"the target of a class must be one int64, got {targets.dtype} of shape "
            f"{(*targets.shape[1:],)}; use .long(), and squeeze a dimension of size 1"
        )
    if outputs.ndim != 2:
        return f"outputs must be logits (N, C), got {(*outputs.shape,)}; see forward()"
    num_classes = outputs.shape[1]
    if targets.min() < 0 or targets.max() >= num_classes:
        return (
            f"targets must be in [0, {num_classes}), since the model has {num_classes} outputs, "
            f"got {int(targets.min())} to {int(targets.max())}; number classes from 0, or give "
            "the model more outputs"
        )
    return None


def _value_problem(targets: Tensor, outputs: Tensor) -> str | None:
    if not targets.is_floating_point():
        return f"the targets of a regression must be floats, got {targets.dtype}; use .float()"
    if outputs.shape[1:] != targets.shape[1:]:
        return (
            "outputs of a regression must have the shape of the targets, got "
            f"{(*outputs.shape[1:],)} and {(*targets.shape[1:],)} per example; squeeze one of them"
        )
    return None


def _token_problem(targets: Tensor, outputs: Tensor) -> str | None:
    if targets.dtype != torch.int64 or targets.ndim != 2:
        return (
            "the targets of a language model must be int64 (T,) per example, got "
            f"{targets.dtype} of shape {(*targets.shape[1:],)}"
        )
    if outputs.ndim != 2:
        return f"outputs must be the losses of tokens (N, T), got {(*outputs.shape,)}"
    if bool(((targets < 0) & (targets != -100)).any()):
        return f"targets must be token ids, or -100 for none, got {int(targets.min())}"
    return None


_PROBLEMS = {
    "classification": _class_problem,
    "regression": _value_problem,
    "language_model": _token_problem,
}


def _classes_train_lacks(targets: dict[str, list[Tensor]]) -> str | None:
    classes = {split: {*torch.cat(parts).tolist()} for split, parts in targets.items()}
    for split, found in classes.items():
        missing = sorted(found - classes["train"]) if split in ("val", "test") else []
        if missing:
            return (
                f"dataset('train'): must have examples of every class of {split}, has none of "
                f"{missing}; divide each class among the splits"
            )
    return None
