"""Merge models of any size on disk: each tensor is read once, merged and written in place.

Memory holds one tensor of every model (and its float32 form), or, for elementwise methods, a run
of elements. The result does not depend on the number of threads, bit for bit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from stockpot.disk_merging.lost_changes import ChangesOf, count_changes, total
from stockpot.disk_merging.planning.plan import TensorPlan
from stockpot.disk_merging.streaming.devices import CPU, Arrival, Device, ahead
from stockpot.disk_merging.streaming.freed_memory import retain_freed_memory
from stockpot.disk_merging.streaming.planned_tensors import (
    Merged,
    extra_rows,
    is_elementwise,
    is_large,
    measures_masks,
    merge_run,
    merge_whole,
    read_run,
    read_whole,
    runs_of,
    torch_threads,
)
from stockpot.merging.runs import run_bounds, run_size
from stockpot.merging.whole_model import measure_models
from stockpot.storage.weights.output import ShardedOutput, ShardWriter

_PIECE = 2**21  # elements of a big tensor that one thread merges: several whole runs
_BATCH = 2**25  # elements of tensors whose measurements, if they are large, are held at once

OnBytes = Callable[[int], None]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Output:
    """One merged model that is written.

    Attributes:
        plans: one per tensor.
        files: laid out for the tensors of `plans`.
        key: identifies the work: an interrupted merge resumes under the same key.
        complete_folder: called with the folder of the finished weights, before it is renamed.
    """

    plans: Sequence[TensorPlan]
    files: ShardedOutput
    key: str
    complete_folder: Callable[[Path], None] = lambda _folder: None


@dataclass(frozen=True, slots=True)
class _Target:
    """A tensor of one output.

    Attributes:
        plan: of the tensor.
        writer: of the output's shard.
        changes: how many of the models' changes the shard has, by piece of work.
        device: on which it is merged.
    """

    plan: TensorPlan
    writer: ShardWriter
    changes: list[ChangesOf]
    device: Device

    def take(self, first: int, merged: Merged) -> Callable[[], None]:
        """Take merged elements from position `first` on; return what writes them."""
        arrival = self.device.fetch(merged.rounded)
        self.changes.append(count_changes(self.plan, first, *merged))
        return lambda: self.writer.write(self.plan.name, arrival(), first)


_Targets = Sequence[_Target]
"""The same tensor of all outputs: their plans differ in the recipe alone."""


def merge_to_disk(
    outputs: Sequence[Output],
    *,
    device: Device = CPU,
    num_threads: int | None = None,
    on_bytes: OnBytes,
) -> None:
    """Merge all tensors into the files of the outputs, which appear once all are complete.

    Args:
        outputs: at least one, of the same models and with the same files; each part of the models
            is read once for all.
        device: on which weights are merged.
        num_threads: tensors, or pieces of big ones, that are merged at once; None: the device's.
        on_bytes: called with the number of input bytes after each piece of work.

    Raises:
        InputError: a value is not finite, in an input or after rounding to the output's dtype; or
            the device lacks the memory for a run of all models.
    """
    retain_freed_memory()
    num_threads = num_threads or device.num_threads
    with ExitStack() as stack:
        stack.enter_context(device.memory_errors())
        opened = [stack.enter_context(one.files.opened(one.key)) for one in outputs]
        unfinished = {name for shards in opened for shard in shards for name in shard.tensors}
        on_bytes(sum(p.num_input_bytes for p in outputs[0].plans if p.name not in unfinished))
        plans = [
            with_models_measured(one.plans, num_threads, device) if shards else {}
            for one, shards in zip(outputs, opened, strict=True)
        ]
        for number, shard in enumerate(outputs[0].files.shards):
            with ExitStack() as writers:
                tensors: dict[str, list[_Target]] = {name: [] for name in shard.tensors}
                for one, shards, by_name in zip(outputs, opened, plans, strict=True):
                    if (own := one.files.shards[number]) in shards:
                        writer = writers.enter_context(one.files.writing(own))
                        changes: list[ChangesOf] = []
                        for name, targets in tensors.items():
                            targets.append(_Target(by_name[name], writer, changes, device))
                _merge_shard([*filter(None, tensors.values())], num_threads, on_bytes)
        for one in outputs:
            one.complete_folder(one.files.work)


def with_models_measured(
    plans: Sequence[TensorPlan], num_threads: int, device: Device = CPU
) -> dict[str, TensorPlan]:
    """Return the plans by name, with the measurements of whole models that their methods need."""
    by_name = {plan.name: plan for plan in plans}
    with spreading(num_threads) as (_, spread):
        recipes = measure_models(
            {plan.name: plan.recipe for plan in plans if plan.is_weight},
            lambda name: runs_of(by_name[name], spread, device),
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


def _merge_shard(tensors: Sequence[_Targets], num_threads: int, on_bytes: OnBytes) -> None:
    """Merge the tensors of a shard, each in all outputs that lack it."""
    for targets in tensors:
        _copy_extra_rows(targets)
    large = [targets for targets in tensors if is_large(targets[0].plan)]
    whole = [targets for targets in large if not is_elementwise(targets[0].plan)]
    for targets in whole:
        _merge_whole(targets)
        on_bytes(targets[0].plan.num_input_bytes)
    # Of these, parts are computed from whole tensors: of one at a time, to bound memory.
    apart = [
        targets
        for targets in large
        if targets not in whole and any(o.bytes_to_compute for o in targets[0].plan.origins)
    ]
    together = [targets for targets in tensors if targets not in whole and targets not in apart]
    with spreading(num_threads) as (pool, spread):
        for group in (*([targets] for targets in apart), *_batches(together)):
            # Measure all before merging any, so that no thread waits for another.
            big = [targets for targets in group if _is_big(targets[0].plan)]
            measured = {targets[0].plan.name: _measured(targets, spread) for targets in big}
            futures = {
                pool.submit(work): num_bytes
                for targets in group
                for work, num_bytes in _pieces(targets, measured.get(targets[0].plan.name, []))
            }
            for future in as_completed(futures):
                future.result()
                on_bytes(futures[future])
    for target in tensors[0] if tensors else ():
        changes = total(target.changes)  # of all tensors of the output's shard
        target.writer.facts.update({path: c.as_list() for path, c in changes.items()})


def _batches(tensors: Sequence[_Targets]) -> Iterator[list[_Targets]]:
    """Split the tensors of a shard where the measurements of all would take too much memory."""
    batch: list[_Targets] = []
    for targets in tensors:
        batch.append(targets)
        held = (one for one in batch if measures_masks(one[0].plan))
        if sum(one[0].plan.num_elements for one in held) > _BATCH:
            yield batch
            batch = []
    yield batch


def _measured(targets: _Targets, spread: Any = map) -> list[Any]:
    """Measure a tensor for each output; once for outputs with the same options."""
    found: dict[str, Any] = {}
    for target in targets:
        recipe = target.plan.recipe
        key = repr((recipe.options, recipe.seed))
        if key not in found:
            runs = runs_of(target.plan, spread, target.device)
            found[key] = recipe.measured(target.plan.name, runs)
    return [found[repr((t.plan.recipe.options, t.plan.recipe.seed))] for t in targets]


def _copy_extra_rows(targets: _Targets) -> None:
    plan = targets[0].plan
    if plan.extra_rows is not None:
        first, last = plan.num_elements, math.prod(plan.type[1])
        rows = extra_rows(plan, first, last)
        for target in targets:
            target.writer.write(plan.name, rows, first)


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


def _pieces(targets: _Targets, measured: Sequence[Any]) -> Iterator[tuple[Callable[[], None], int]]:
    """Split the work on a tensor, if its elements are merged independently."""
    plan = targets[0].plan
    if not _is_big(plan):
        yield partial(_merge_whole, targets), plan.num_input_bytes
        return
    at_once = targets[0].device.runs_at_once(len(plan.origins))
    size = run_size(plan.row, at_once)
    step = max(1, at_once * _PIECE // size) * size
    for first in range(0, plan.num_elements, step):
        last = min(first + step, plan.num_elements)
        before, after = (plan.num_input_bytes * n // plan.num_elements for n in (first, last))
        yield partial(_merge_runs, targets, measured, first, last), after - before


def _merge_whole(targets: _Targets) -> None:
    plan = targets[0].plan
    if is_elementwise(plan):
        _merge_runs(targets, _measured(targets), 0, plan.num_elements)
        return
    inputs = read_whole(plan)
    for target in targets:
        target.take(0, merge_whole(target.plan, inputs, target.device))()


def _merge_runs(targets: _Targets, measured: Sequence[Any], first: int, last: int) -> None:
    """Merge the elements [first, last) of flattened tensors, one run at a time.

    On a device, while a run is merged, the next one is sent and the previous one is fetched.
    """
    plan, device = targets[0].plan, targets[0].device
    bounds = run_bounds(first, last, plan.row, device.runs_at_once(len(plan.origins)))
    sent = ahead(((run[0], read_run(plan, *run, device)) for run in bounds), device.num_ahead)
    for write in ahead(_merged_runs(targets, measured, sent), device.num_ahead):
        write()
        del write  # so that its memory is free before the next run is merged


def _merged_runs(
    targets: _Targets, measured: Sequence[Any], sent: Iterable[tuple[int, Arrival[Any]]]
) -> Iterator[Callable[[], None]]:
    """Yield what writes a merged run, for each run and target."""
    for first, arrived in sent:
        inputs = arrived()
        for target, own in zip(targets, measured, strict=True):
            yield target.take(first, merge_run(target.plan, own, first, inputs))
        del inputs, arrived  # so that their memory is free before the next run is read
