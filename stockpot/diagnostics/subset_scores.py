"""Val scores of means of subsets of ingredients, for `contributions` and `soup_size`.

Both use the same subsets. The first one to run caches the scores for the other, which may run in
another process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext, LoadedModel
from stockpot.diagnostics.shapley import (
    Members,
    Order,
    every_subset,
    exact_weights,
    order_errors,
    order_weights,
    passed_subsets,
    random_orders,
)
from stockpot.merging.stack import IngredientStack
from stockpot.scoring.shift_means import mean_over_shifts
from stockpot.seeding import seeded_generator
from stockpot.soups.preparation.recalibration import Recalibration
from stockpot.statistics.values import Floats
from stockpot.storage.checkpoints import load_tensors, save_checkpoint
from stockpot.storage.keys import content_key
from stockpot.storage.locks import file_lock
from stockpot.workloads.passes import Examples

PLACES = {"val": "val", "val_shift": "val shifts"}
"""Place -> its name in sentences; `val_shift` is the mean over the val shifts."""

_BY_PLACE = ("by_size", "shapley", "without")
_MAX_EXACT = 8  # members: all 256 subsets are scored


@dataclass(frozen=True)
class Survey:
    """Scores of subsets of M members, with per-example statistics.

    Up to eight members, all subsets are scored; else those that random orders pass.

    Attributes:
        scores: the mean metric by subset, (places,); that of the empty subset is the base's.
        by_size: the mean over the scored subsets of 1 to M members; per place (M, N).
        shapley: the Shapley value of each member; per place (M, N).
        without: the value without each member minus the value of all; per place (M, N).
        order_errors: standard errors of the Shapley values due to sampled orders; (M, places).
    """

    scores: Mapping[Members, Floats]
    by_size: tuple[Floats, ...]
    shapley: tuple[Floats, ...]
    without: tuple[Floats, ...]
    order_errors: Floats


def places(context: DiagnosticContext) -> tuple[str, ...]:
    """Return the places that subsets are scored on: val, and val shifts if there are any."""
    return tuple(PLACES) if context.val_shifts else ("val",)


def survey(context: DiagnosticContext, members: Sequence[LoadedModel]) -> Survey:
    """Score means of subsets of some ingredients, or load the scores from the cache.

    Means are summed, and orders drawn, in the order of the digests, so that the order of the
    members has no effect except on the order of the rows.

    Args:
        context: its val and val shifts are used.
        members: ingredients, at least two.
    """
    by_digest = sorted(range(len(members)), key=lambda place: members[place].model.digest)
    if context.shared is None:
        return _score(context, members, by_digest)
    names = content_key(members=[member.name for member in members])
    path = context.shared / f"{names}.safetensors"
    with file_lock(path.with_suffix(".lock")):
        if path.is_file():
            return _read(path)
        scored = _score(context, members, by_digest)
        _write(path, scored)
    return scored


def _score(
    context: DiagnosticContext, members: Sequence[LoadedModel], by_digest: Sequence[int]
) -> Survey:
    groups = _orders(context.seed, by_digest)
    subsets, weights = _subsets_and_weights(len(members), groups)
    stack = IngredientStack([members[place].weights for place in by_digest], context.device)
    recalibrated = Recalibration(context.workload, context.device)
    row_of = {place: row for row, place in enumerate(by_digest)}
    scores: dict[Members, Floats] = {}
    totals: list[Floats] = []
    for column, subset in zip(weights.T, subsets, strict=True):
        rows = sorted(row_of[place] for place in subset)
        merged = recalibrated(stack.mean_of(rows), len(rows)) if rows else context.base.weights
        values = _values(context, merged)
        scores[subset] = np.array([one.mean() for one in values])
        totals = totals or [np.zeros((len(weights), len(one))) for one in values]
        for place, one in enumerate(values):
            totals[place] += column[:, None] * one
    by_size, shapley, without = zip(*(np.split(total, 3) for total in totals), strict=True)
    errors = order_errors(groups, scores) if groups else np.zeros((len(members), len(totals)))
    return Survey(scores, by_size, shapley, without, errors)


def _values(context: DiagnosticContext, weights: Mapping[str, Tensor]) -> list[Floats]:
    """Return per-example values, (N,) per place; those of shifts are averaged by example."""
    net = context.net(weights)
    metric = context.workload.metrics[context.metric]

    def measured(examples: Examples) -> Floats:
        values: Tensor = metric(examples.outputs(net), examples.targets)
        return values.double().cpu().numpy()

    values = [measured(context.val)]
    if shifts := context.val_shifts:
        known = context.workload.shifts()
        are_copies = [known[name].is_copy for name in shifts]
        values.append(mean_over_shifts([measured(e) for e in shifts.values()], are_copies))
    return values


def _orders(seed: int, by_digest: Sequence[int]) -> list[list[Order]]:
    """Draw the orders; none if all subsets are scored."""
    if len(by_digest) <= _MAX_EXACT:
        return []
    drawn = random_orders(len(by_digest), seeded_generator(seed, "subset scores"))
    return [[[by_digest[row] for row in order] for order in group] for group in drawn]


def _subsets_and_weights(
    num_members: int, groups: list[list[Order]]
) -> tuple[list[Members], Floats]:
    """Return the subsets to score, and their weights in the statistics of a survey, (3 M, S)."""
    everyone = tuple(range(num_members))
    if groups:
        orders = [order for group in groups for order in group]
        but_one = [tuple(m for m in everyone if m != member) for member in everyone]
        subsets = sorted({*passed_subsets(orders), *((m,) for m in everyone), *but_one})
        shapley = order_weights(orders, subsets)
    else:
        subsets = every_subset(num_members)
        shapley = exact_weights(num_members, subsets)
    sizes = np.array([len(subset) for subset in subsets])
    of_size = (sizes == np.arange(1, num_members + 1)[:, None]).astype(float)
    without = np.zeros_like(shapley)
    for column, subset in enumerate(subsets):
        if len(subset) == num_members - 1:
            (missing,) = set(everyone) - set(subset)
            without[missing, column] = 1
    without[:, subsets.index(everyone)] = -1
    by_size = of_size / of_size.sum(axis=1, keepdims=True)
    return subsets, np.concatenate([by_size, shapley, without])


def _write(path: Path, scored: Survey) -> None:
    num_members = len(scored.order_errors)
    present = np.zeros((len(scored.scores), num_members), dtype=np.uint8)
    for row, subset in zip(present, scored.scores, strict=True):
        row[list(subset)] = 1
    arrays = {
        "present": present,
        "scores": np.array(list(scored.scores.values())),
        "order_errors": scored.order_errors,
    }
    for name in _BY_PLACE:  # places may hold different numbers of examples
        for place, array in enumerate(getattr(scored, name)):
            arrays[f"{name}.{place}"] = array
    save_checkpoint(path, {name: torch.from_numpy(array) for name, array in arrays.items()}, {})


def _read(path: Path) -> Survey:
    arrays = {name: tensor.numpy() for name, tensor in load_tensors(path).items()}
    subsets = [tuple(np.flatnonzero(row).tolist()) for row in arrays["present"]]
    num_places = arrays["scores"].shape[1]
    by_place = {n: tuple(arrays[f"{n}.{place}"] for place in range(num_places)) for n in _BY_PLACE}
    return Survey(
        scores=dict(zip(subsets, arrays["scores"], strict=True)),
        order_errors=arrays["order_errors"],
        **by_place,
    )
