"""Merge models of any size on disk: each tensor is read once, merged and written in place.

Memory holds one tensor of every model (and its float32 form), or, for elementwise methods, a run
of elements. The result does not depend on the number of threads, bit for bit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from stockpot.disk_merging.freed_memory import retain_freed_memory
from stockpot.disk_merging.lost_changes import ChangesOf, count_changes, total
from stockpot.disk_merging.plan import TensorPlan
from stockpot.disk_merging.planned_tensors import (
    extra_rows,
    is_elementwise,
    is_large,
    merged_run,
    merged_whole,
    runs_of,
    torch_threads,
)
from stockpot.merging.runs import run_bounds
from stockpot.merging.whole_model import measure_models
from stockpot.storage.weights.output import ShardedOutput, ShardWriter

_PIECE = 2**21  # elements of a big tensor that one thread merges: several whole runs

OnBytes = Callable[[int], None]
T = TypeVar("T")
R = TypeVar("R")


def merge_to_disk(
    plans: Sequence[TensorPlan],
    output: ShardedOutput,
    key: str,
    *,
    num_threads: int,
    on_bytes: OnBytes,
    complete_folder: Callable[[Path], None] = lambda _folder: None,
) -> None:
    """Merge all tensors into the files of `output`, which appear once all are complete.

    Args:
        plans: one per tensor.
        output: laid out for the tensors of `plans`.
        key: identifies the work: an interrupted merge resumes under the same key.
        num_threads: number of tensors, or pieces of big ones, that are merged at once.
        on_bytes: called with the number of input bytes after each piece of work.
        complete_folder: called with the folder of the finished weights, before it is renamed.

    Raises:
        InputError: a value is not finite, in an input or after rounding to the output's dtype.
    """
    retain_freed_memory()
    with output.opened(key) as shards:
        waiting = {name for shard in shards for name in shard.tensors}
        on_bytes(sum(p.num_input_bytes for p in plans if p.name not in waiting))
        by_name = with_models_measured(plans, num_threads) if waiting else {}
        for shard in shards:
            with output.writing(shard) as writer:
                own = [by_name[name] for name in shard.tensors]
                changes = _merge_shard(own, writer, num_threads, on_bytes)
                writer.facts.update({path: c.as_list() for path, c in changes.items()})
        complete_folder(output.work)


def with_models_measured(plans: Sequence[TensorPlan], num_threads: int) -> dict[str, TensorPlan]:
    """Return the plans by name, with the measurements of whole models that their methods need."""
    by_name = {plan.name: plan for plan in plans}
    with spreading(num_threads) as (_, spread):
        recipes = measure_models(
            {plan.name: plan.recipe for plan in plans if plan.is_weight},
            lambda name: runs_of(by_name[name], spread),
        )
    return by_name | {n: replace(by_name[n], recipe=recipe) for n, recipe in recipes.items()}


@contextmanager
def spreading(
    num_threads: int,
) -> Iterator[tuple[ThreadPoolExecutor, Callable[..., Iterator[Any]]]]:
    """Yield threads, in each of which torch uses one, and a function like `map` that uses them.

    On an error or an interrupt, nothing more is started.
    """
    with (
        torch_threads(1),
        ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            yield pool, partial(_in_order, pool, 2 * num_threads)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _merge_shard(
    plans: Sequence[TensorPlan], writer: ShardWriter, num_threads: int, on_bytes: OnBytes
) -> ChangesOf:
    """Merge the tensors of a shard; return how many of the models' changes it has."""
    changes: list[ChangesOf] = []
    for plan in plans:
        _copy_extra_rows(plan, writer)
    large = [plan for plan in plans if is_large(plan)]
    whole = [plan for plan in large if not is_elementwise(plan)]
    for plan in whole:
        changes.append(_merge_whole(plan, writer))
        on_bytes(plan.num_input_bytes)
    # Of these, parts are computed from whole tensors: of one at a time, to bound memory.
    apart = [p for p in large if p not in whole and any(o.bytes_to_compute for o in p.origins)]
    together = [plan for plan in plans if plan not in whole and plan not in apart]
    with spreading(num_threads) as (pool, spread):
        for group in (*([plan] for plan in apart), together):
            # Measure all before merging any, so that no thread waits for another.
            big = [plan for plan in group if _is_big(plan)]
            measured = {p.name: p.recipe.measured(p.name, runs_of(p, spread)) for p in big}
            futures = {
                pool.submit(work): num_bytes
                for plan in group
                for work, num_bytes in _pieces(plan, measured.get(plan.name), writer)
            }
            for future in as_completed(futures):
                changes.append(future.result())
                on_bytes(futures[future])
    return total(changes)


def _copy_extra_rows(plan: TensorPlan, writer: ShardWriter) -> None:
    if plan.extra_rows is not None:
        first, last = plan.num_elements, math.prod(plan.type[1])
        writer.write(plan.name, extra_rows(plan, first, last), first)


def _in_order(
    pool: ThreadPoolExecutor, num_ahead: int, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[R]:
    """Map in threads, at most `num_ahead` items ahead of the consumer, to bound memory."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) > num_ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _is_big(plan: TensorPlan) -> bool:
    return is_elementwise(plan) and plan.num_elements > _PIECE


def _pieces(
    plan: TensorPlan, measured: Any, writer: ShardWriter
) -> Iterator[tuple[Callable[[], ChangesOf], int]]:
    """Split the work on a tensor, if its elements are merged independently."""
    if not _is_big(plan):
        yield partial(_merge_whole, plan, writer), plan.num_input_bytes
        return
    for first in range(0, plan.num_elements, _PIECE):
        last = min(first + _PIECE, plan.num_elements)
        before, after = (plan.num_input_bytes * n // plan.num_elements for n in (first, last))
        yield partial(_merge_runs, plan, measured, writer, first, last), after - before


def _merge_whole(plan: TensorPlan, writer: ShardWriter) -> ChangesOf:
    if is_elementwise(plan):
        measured = plan.recipe.measured(plan.name, runs_of(plan))
        return _merge_runs(plan, measured, writer, 0, plan.num_elements)
    inputs, merged, rounded = merged_whole(plan)
    writer.write(plan.name, rounded)
    return count_changes(plan, 0, inputs, merged, rounded)


def _merge_runs(
    plan: TensorPlan, measured: Any, writer: ShardWriter, first: int, last: int
) -> ChangesOf:
    """Merge the elements [first, last) of flattened tensors, one run at a time."""
    # In a function, so that a run's memory is freed before the next one is read.
    return total(_merge_run(plan, measured, writer, *run) for run in run_bounds(first, last))


def _merge_run(
    plan: TensorPlan, measured: Any, writer: ShardWriter, first: int, last: int
) -> ChangesOf:
    inputs, merged, rounded = merged_run(plan, measured, first, last)
    writer.write(plan.name, rounded, first)
    return count_changes(plan, first, inputs, merged, rounded)
