"""Check that val has the class proportions and mean inputs of train."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from stockpot.diagnostics.precheck.check import Check, rounded
from stockpot.workloads.batches import num_examples, take
from stockpot.workloads.protocol import Batch, Task

_MAX_EXAMPLES = 2000  # of each split
_MAX_FEATURES = 256  # of the inputs
_ROUNDING = 1e-5
_ORDERS_PER_ALARM = 10  # random orders per order that may exceed the limit


def check_samples(
    train: Dataset[Any], val: Dataset[Any], task: Task, delta: float, generator: Generator
) -> Check:
    """Check that val's class proportions and mean inputs differ from train's by chance alone.

    If both splits are drawn from one distribution, the check fails with a probability of at most
    `delta`.

    Args:
        train: the training split.
        val: the validation split.
        task: for classification, the share of each class is compared.
        delta: in (0, 1).
        generator: draws examples, features and orders; on the CPU.
    """
    parts = [_sample(split, generator) for split in (train, val)]
    columns, names = _features(parts, task, generator)
    if not names:
        return Check(None, "val is like train", True, None, None, "nothing to compare")
    sizes = [len(part[-1]) for part in parts]
    first, second = torch.split(torch.cat(columns, dim=1), sizes)
    value, limit, worst = largest_difference(first, second, delta, generator)
    detail = (
        f"{names[worst]} differs most, by {value:.2f} standard deviations, which for "
        f"{sizes[0]} and {sizes[1]} examples is "
        f"{'within' if value <= limit else 'beyond'} chance ({limit:.2f})"
    )
    return Check(None, "val is like train", value <= limit, rounded(value), rounded(limit), detail)


def largest_difference(
    first: Tensor, second: Tensor, delta: float, generator: Generator
) -> tuple[float, float, int]:
    """Compare the means of all features of two samples.

    Args:
        first: (N, D), D at least 1.
        second: (M, D).
        delta: in (0, 1).
        generator: draws the orders; on the CPU.

    Returns:
        The largest difference, in standard deviations of the feature; the limit that samples of
        one distribution exceed with a probability of at most `delta`; the feature's position.

    Source: Westfall & Young 1993, Resampling-Based Multiple Testing: the distribution of the
    largest one under random relabelling, which is exact for any distribution of features.
    """
    pooled = torch.cat([first, second]).double()
    spread = pooled.std(dim=0, correction=0)
    # A constant feature differs by 0, so that any divisor will do.
    standard = (pooled - pooled.mean(dim=0)) / spread.where(spread > 0, 1)
    size = len(second)
    scale = 1 / len(first) + 1 / size  # from the sum over `second`, all features having mean 0
    seen = scale * standard[len(first) :].sum(dim=0).abs()
    num_orders = math.ceil(_ORDERS_PER_ALARM / delta) - 1
    orders = torch.rand(num_orders, len(pooled), generator=generator).argsort(dim=1)
    chosen = (orders.argsort(dim=1) < size).float()  # the first examples of each order
    by_chance = scale * (chosen @ standard.float()).abs().amax(dim=1).double()
    # Fewer orders exceed it than `delta` allows, the observed one included; equal sums may differ
    # by rounding.
    limit = (1 + _ROUNDING) * by_chance.sort(descending=True).values[_ORDERS_PER_ALARM - 1]
    return float(seen.max()), float(limit), int(seen.argmax())


def _sample(split: Dataset[Any], generator: Generator) -> Batch:
    chosen = torch.randperm(num_examples(split), generator=generator)[:_MAX_EXAMPLES]
    return tuple(tensor.cpu() for tensor in take(split, chosen))


def _features(
    parts: list[Batch], task: Task, generator: Generator
) -> tuple[list[Tensor], list[str]]:
    """Return floating-point inputs and targets of all examples as features.

    Returns:
        Blocks of features, (N, ...) each, and the names of the D features in all blocks.
    """
    *inputs, labels = zip(*parts, strict=True)
    columns, names = [], []
    for number, pair in enumerate(inputs):
        if pair[0].is_floating_point():  # token ids have no mean
            flat = torch.cat(pair).flatten(1).float()
            drawn = torch.randperm(flat.shape[1], generator=generator)[:_MAX_FEATURES]
            chosen = drawn.sort().values
            columns.append(flat[:, chosen])
            which = f"input {number} " if len(inputs) > 1 else "input "
            names += [f"{which}feature {place}" for place in chosen.tolist()]
    # The targets of a language model are token ids too, and the splits may differ in length.
    if task == "classification" and labels[0].ndim == 1:
        targets = torch.cat(labels)
        classes = torch.unique(targets)
        columns.append((targets[:, None] == classes).float())
        names += [f"the share of class {c}" for c in classes.tolist()]
    elif task == "regression":
        flat = torch.cat([part.reshape(len(part), -1) for part in labels]).float()
        columns.append(flat)
        names += [f"target {place}" for place in range(flat.shape[1])]
    return columns, names
