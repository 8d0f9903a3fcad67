"""Merge models of any size on disk: each tensor is read once, merged and written in place.

Memory holds one tensor of every model (and its float32 form), or, for elementwise methods, a run
of elements. The result does not depend on the number of threads, bit for bit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from stockpot.disk_merging.freed_memory import retain_freed_memory
from stockpot.disk_merging.lost_changes import ChangesOf, count_changes, total
from stockpot.disk_merging.plan import TensorPlan
from stockpot.errors import InputError
from stockpot.merging.masks import check_agreement
from stockpot.merging.runs import MOST_ENTRIES, Run, Runs, run_bounds
from stockpot.merging.tensor_rules import merge_running_vars, merge_tensor
from stockpot.merging.whole_model import measure_models
from stockpot.storage.weights.output import ShardedOutput, ShardWriter

_PIECE = 2**21  # elements of a big tensor that one thread merges: several whole runs
_ALONE = 2**22  # larger tensors are merged one at a time, by torch's threads
_TORCH_THREADS = 4  # on any machine: torch's sums depend on the number of threads

_SATURATING = torch.float8_e4m3fn  # has no infinity: larger values become the maximum
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
    before = torch.get_num_threads()
    try:
        with output.opened(key) as shards:
            waiting = {name for shard in shards for name in shard.tensors}
            on_bytes(sum(p.num_input_bytes for p in plans if p.name not in waiting))
            by_name = _with_models_measured(plans, num_threads) if waiting else {}
            for shard in shards:
                with output.writing(shard) as writer:
                    own = [by_name[name] for name in shard.tensors]
                    changes = _merge_shard(own, writer, num_threads, on_bytes)
                    writer.facts.update({path: c.as_list() for path, c in changes.items()})
            complete_folder(output.work)
    finally:
        torch.set_num_threads(before)


def _with_models_measured(plans: Sequence[TensorPlan], num_threads: int) -> dict[str, TensorPlan]:
    """Return the plans by name, with the measurements of whole models that their methods need."""
    by_name = {plan.name: plan for plan in plans}
    torch.set_num_threads(1)
    with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        spread = partial(_in_order, pool, 2 * num_threads)
        recipes = measure_models(
            {plan.name: plan.recipe for plan in plans if plan.is_weight},
            lambda name: runs_of(by_name[name], spread),
        )
    return by_name | {n: replace(by_name[n], recipe=recipe) for n, recipe in recipes.items()}


def _merge_shard(
    plans: Sequence[TensorPlan], writer: ShardWriter, num_threads: int, on_bytes: OnBytes
) -> ChangesOf:
    """Merge the tensors of a shard; return how many of the models' changes it has."""
    changes: list[ChangesOf] = []
    for plan in plans:
        _copy_extra_rows(plan, writer)
    alone = [p for p in plans if not _is_elementwise(p) and p.num_elements > _ALONE]
    torch.set_num_threads(_TORCH_THREADS)
    for plan in alone:
        changes.append(_merge_whole(plan, writer))
        on_bytes(plan.num_input_bytes)
    torch.set_num_threads(1)
    with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            # Measure all before merging any, so that no thread waits for another.
            big = [p for p in plans if p not in alone and _is_big(p)]
            spread = partial(_in_order, pool, 2 * num_threads)
            measured = {p.name: p.recipe.measured(p.name, runs_of(p, spread)) for p in big}
            futures = {
                pool.submit(work): num_bytes
                for plan in plans
                if plan not in alone
                for work, num_bytes in _pieces(plan, measured.get(plan.name), writer)
            }
            for future in as_completed(futures):
                changes.append(future.result())
                on_bytes(futures[future])
        finally:  # on an error or an interrupt, start nothing more
            pool.shutdown(wait=False, cancel_futures=True)
    return total(changes)


def _copy_extra_rows(plan: TensorPlan, writer: ShardWriter) -> None:
    if plan.extra_rows is None:
        return
    dtype, shape = plan.type
    first, last = plan.num_elements, math.prod(shape)
    rounded = plan.extra_rows.source.read_run(plan.extra_rows.name, first, last).to(dtype)
    if not torch.isfinite(rounded.float()).all():
        raise InputError(
            f"{plan.extra_rows.stored.file}: tensor {plan.extra_rows.name!r}: has a value that is "
            f"not finite in {dtype}"
        )
    writer.write(plan.name, rounded, first)


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
    return _is_elementwise(plan) and plan.num_elements > _PIECE


def runs_of(plan: TensorPlan, spread: Any = map) -> Runs:
    """Return the entries of a tensor in all models, read run by run; `spread` is as in `Runs`."""
    return Runs(len(plan.inputs), plan.num_elements, partial(_run, plan), spread)


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


def _is_elementwise(plan: TensorPlan) -> bool:
    return plan.recipe.is_elementwise and plan.is_weight


def _merge_whole(plan: TensorPlan, writer: ShardWriter) -> ChangesOf:
    if _is_elementwise(plan):
        measured = plan.recipe.measured(plan.name, runs_of(plan))
        return _merge_runs(plan, measured, writer, 0, plan.num_elements)
    inputs: list[Tensor] = []
    try:
        if plan.inputs[0].is_variance:
            variances = [origin.read().double() for origin in plan.inputs]
            means = [origin.mean.read() for origin in plan.inputs]
            merged = merge_running_vars(plan.name, variances, means, plan.recipe.shares)
        else:
            # In the working dtype, so that it is rounded only once.
            inputs = [origin.read().to(plan.working_dtype) for origin in plan.origins]
            tensors = inputs[: len(plan.inputs)]
            base = None if plan.base is None else inputs[-1]
            taken = base if plan.recipe.method_itself.takes_base else None
            if _may_be_pruned(plan):
                check_agreement(plan.name, tensors, taken, plan.recipe.masks)
            merged = merge_tensor(plan.name, tensors, plan.recipe, base)
    except InputError:
        check_finite(plan)
        raise
    rounded = _rounded(plan, merged)
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
    inputs = _read_run(plan, first, last)
    run = _run_of(plan, first, inputs)
    _check_run(plan, run)
    merged = plan.recipe.merge_run(plan.name, run, measured)
    rounded = _rounded(plan, merged)
    writer.write(plan.name, rounded, first)
    return count_changes(plan, first, inputs, merged, rounded)


def _check_run(plan: TensorPlan, run: Run) -> None:
    """Check a run that was read: a method might drop values that are not finite."""
    # A few zeros of a short last run are no mask.
    if _may_be_pruned(plan) and (run.start == 0 or len(run.tensors[0]) == MOST_ENTRIES):
        check_agreement(plan.name, run.tensors, run.base, plan.recipe.masks)
    # A cheap test: finite values may have an infinite sum, so failures are examined.
    if not all(
        torch.isfinite(tensor.sum()) for tensor in (*run.tensors, run.base) if tensor is not None
    ):
        check_finite(plan)


def _may_be_pruned(plan: TensorPlan) -> bool:
    """Whether zeros of a tensor may be a mask; those of a norm's scale and of few bits are not."""
    rounded = any(origin.source.may_round_to_zero(origin.name) for origin in plan.origins)
    return len(plan.type[1]) >= 2 and not rounded


def _run(plan: TensorPlan, first: int, last: int) -> Run:
    return _run_of(plan, first, _read_run(plan, first, last))


def _read_run(plan: TensorPlan, first: int, last: int) -> list[Tensor]:
    """Read the entries of the models, then those of the base if there is one."""
    dtype = plan.working_dtype
    return [o.source.read_run(o.name, first, last).to(dtype) for o in plan.origins]


def _run_of(plan: TensorPlan, first: int, entries: Sequence[Tensor]) -> Run:
    if plan.base is None:
        return Run(first, entries, None)
    *models, base = entries
    return Run(first, models, base if plan.recipe.method_itself.takes_base else None)


def _rounded(plan: TensorPlan, merged: Tensor) -> Tensor:
    """Round to the output's dtype; refuse values that are not finite or overflow it."""
    rounded = merged.to(plan.type[0])
    if rounded.is_floating_point() and (
        # A cheap test: finite values may have an infinite sum, so failures are examined.
        not torch.isfinite(rounded.sum(dtype=torch.float32)) or rounded.dtype == _SATURATING
    ):
        _check_rounded(plan, merged, rounded)
    return rounded


def _check_rounded(plan: TensorPlan, merged: Tensor, rounded: Tensor) -> None:
    limit = torch.finfo(rounded.dtype).max
    too_large = rounded.dtype == _SATURATING and bool((merged.abs() > limit).any())
    if torch.isfinite(rounded.double()).all() and not too_large:
        return
    check_finite(plan)
    if not torch.isfinite(merged).all():
        raise InputError(
            f"tensor {plan.name!r}: {plan.recipe.method} returned values that are not finite"
        )
    raise InputError(
        f"tensor {plan.name!r}: the merged values reach {merged.abs().max():.3g}, the largest "
        f"in {plan.type[0]} is {limit:.3g}; choose a wider dtype"
    )


def check_finite(plan: TensorPlan) -> None:
    """Refuse a tensor with a value that is not finite.

    Raises:
        InputError: with the first model that has one.
    """
    means = [origin.mean for origin in plan.inputs if origin.is_variance]
    for origin in (*plan.origins, *means):
        if not torch.isfinite(origin.read().to(plan.working_dtype)).all():
            raise InputError(
                f"{origin.stored.file}: tensor {origin.name!r}: has a value that is not finite"
            )
