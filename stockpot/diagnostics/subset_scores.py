"""Val scores of means of subsets of ingredients, for `contributions` and `soup_size`.

Both use the same subsets. The first one to run caches the scores for the other, which may run in
another process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stockpot.diagnostics.context import MOST_WORK, DiagnosticContext, LoadedModel
from stockpot.diagnostics.shapley import (
    NUM_SUBSETS,
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
from stockpot.statistics.values import Floats
from stockpot.storage.checkpoints import load_tensors, save_checkpoint
from stockpot.storage.keys import content_key
from stockpot.storage.locks import file_lock
from stockpot.workers.inside import in_steps
from stockpot.workloads.samples import whole_and_size

PLACES = {"val": "val", "val_shift": "val shifts"}
"""Place -> its name in sentences; `val_shift` is the mean over the val shifts."""

_MAX_EXACT = 8  # members: all 256 subsets are scored
_FEW_SUBSETS = 32  # of five members: orders would pass about as many


@dataclass(frozen=True)
class Survey:
    """Scores of subsets of M members, with per-example statistics.

    Up to eight members, all subsets are scored; else, and if that would take too long with large
    models, those that random orders pass. With large models the examples are a random sample, too.

    Attributes:
        scores: the mean metric by subset, (places,); that of the empty subset is the base's.
        by_size: the mean over the scored subsets of 1 to M members; per place (M, N).
        shapley: the Shapley value of each member; per place (M, N).
        without: the value without each member minus the value of all; per place (M, N).
        order_errors: standard errors of the Shapley values due to sampled orders; (M, places).
        sample: the number of examples of each set, if they are a sample; else None.
    """

    scores: Mapping[Members, Floats]
    by_size: tuple[Floats, ...]
    shapley: tuple[Floats, ...]
    without: tuple[Floats, ...]
    order_errors: Floats
    sample: int | None = None

    @property
    def sampled(self) -> dict[str, int]:
        """The size of the sample, in the form of the data of findings; empty without one."""
        return {} if self.sample is None else {"sample": self.sample}


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
    sets = context.val_sets_for(_num_wanted(len(members)))
    groups = _orders(context, by_digest, sets)
    subsets, weights = _subsets_and_weights(len(members), groups)

    def measure() -> list[Floats]:
        return _measure(
            context, members, by_digest, dict(zip(subsets, weights.T, strict=True)), sets
        )

    rows, *totals = _cached(context.shared, members, measure)
    scores = dict(zip(subsets, rows, strict=True))
    by_size, shapley, without = zip(*(np.split(total, 3) for total in totals), strict=True)
    errors = order_errors(groups, scores) if groups else np.zeros((len(members), len(totals)))
    sample = max((size for _, size in map(whole_and_size, sets) if size is not None), default=None)
    return Survey(scores, by_size, shapley, without, errors, sample)


def about_sample(data: Mapping[str, Any]) -> str:
    """Return the sentence about the sample of a survey, from `Survey.sampled`."""
    if "sample" not in data:
        return ""
    return (
        f" With a model of this size, {data['sample']} random examples of each set were evaluated; "
        "errors and intervals are those of the sample."
    )


def _cached(
    folder: Path | None, members: Sequence[LoadedModel], measure: Callable[[], list[Floats]]
) -> list[Floats]:
    """Return what is measured for some members, from a cache folder if there is one."""
    if folder is None:
        return measure()
    path = folder / f"{content_key(members=[member.name for member in members])}.safetensors"
    with file_lock(path.with_suffix(".lock")):
        if path.is_file():
            kept = load_tensors(path)
            return [kept[str(place)].numpy() for place in range(len(kept))]
        arrays = measure()
        named = {str(place): torch.from_numpy(array) for place, array in enumerate(arrays)}
        save_checkpoint(path, named, {})
    return arrays


def _measure(
    context: DiagnosticContext,
    members: Sequence[LoadedModel],
    by_digest: Sequence[int],
    weights: Mapping[Members, Floats],
    sets: Sequence[str],
) -> list[Floats]:
    """Score means of subsets.

    Args:
        context: its val and val shifts are used.
        members: M ingredients.
        sets: the names of val and its shifts, or of samples of them.
        by_digest: positions of the members in the order of their digests.
        weights: S subsets with their weights in the statistics of a survey, (3 M,) each.

    Returns:
        The mean metrics, (S, places); then for each place the statistics of its N examples,
        (3 M, N).
    """
    stack = IngredientStack([members[place].weights for place in by_digest], context.device)
    scores: list[list[float]] = []
    totals: list[Floats] = []
    for subset, column in in_steps([*weights.items()]):
        rows = [row for row, place in enumerate(by_digest) if place in subset]
        merged = stack.mean_of(rows, reuse=True) if rows else context.base.weights
        parents = [members[by_digest[row]].weights for row in rows]
        merged = context.finished(merged, parents, (1.0,) * len(rows))
        values = _values(context, merged, sets)
        scores.append([one.mean() for one in values])
        totals = totals or [np.zeros((len(column), len(one))) for one in values]
        for place, one in enumerate(values):
            totals[place] += column[:, None] * one
    return [np.array(scores), *totals]


def _values(
    context: DiagnosticContext, weights: Mapping[str, Tensor], sets: Sequence[str]
) -> list[Floats]:
    """Return per-example values, (N,) per place; those of shifts are averaged by example."""
    on_device = context.on_device(weights)

    def measured(set_name: str) -> Floats:
        values: Floats = context.scorer.values(on_device, set_name).numpy()
        return values

    val, *on_shifts = map(measured, sets)
    values = [val]
    if shifts := context.val_shifts:
        are_copies = [context.workload.shifts()[name].is_copy for name in shifts]
        values.append(mean_over_shifts(on_shifts, are_copies))
    return values


def _num_wanted(num_members: int) -> int:
    """Return the number of subsets that are scored if models are small."""
    return int(2**num_members) if num_members <= _MAX_EXACT else NUM_SUBSETS


def _orders(
    context: DiagnosticContext, by_digest: Sequence[int], sets: Sequence[str]
) -> list[list[Order]]:
    """Draw the orders; none if all subsets are scored."""
    num_members = len(by_digest)
    num_examples = sum(context.num_examples(name) for name in sets)
    affordable = int(MOST_WORK / max(num_examples * context.num_weights, 1))
    if num_members <= _MAX_EXACT and 2**num_members <= max(affordable, _FEW_SUBSETS):
        return []
    generator = seeded_generator(context.seed, "subset scores")
    drawn = random_orders(num_members, generator, min(NUM_SUBSETS, affordable))
    return [[[by_digest[row] for row in order] for order in group] for group in drawn]


def _subsets_and_weights(
    num_members: int, groups: list[list[Order]]
) -> tuple[list[Members], Floats]:
    """Return the subsets to score, and their weights in the statistics of a survey, (3 M, S)."""
    everyone = tuple(range(num_members))
    but_one = [everyone[:member] + everyone[member + 1 :] for member in everyone]
    if groups:
        orders = [order for group in groups for order in group]
        subsets = sorted({*passed_subsets(orders), *((m,) for m in everyone), *but_one})
        shapley = order_weights(orders, subsets)
    else:
        subsets = every_subset(num_members)
        shapley = exact_weights(num_members, subsets)
    sizes = np.array([len(subset) for subset in subsets])
    of_size = (sizes == np.arange(1, num_members + 1)[:, None]).astype(float)
    without = np.zeros_like(shapley)
    without[everyone, [subsets.index(subset) for subset in but_one]] = 1
    without[:, subsets.index(everyone)] = -1
    by_size = of_size / of_size.sum(axis=1, keepdims=True)
    return subsets, np.concatenate([by_size, shapley, without])
