"""The computation of a planned tensor: a run of its elements, or the whole tensor.

Elementwise methods merge run by run, others the whole tensor. Both give the same bits wherever they
are called from, for any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stockpot.disk_merging.planning.plan import TensorPlan
from stockpot.disk_merging.streaming.devices import CPU, Arrival, Device
from stockpot.errors import InputError
from stockpot.merging.masks import check_agreement
from stockpot.merging.runs import Run, Runs, in_rows, run_size
from stockpot.merging.tensor_rules import merge_running_vars, merge_tensor

_ALONE = 2**22  # larger tensors are merged one at a time, by torch's threads
_TORCH_THREADS = 4  # on any machine: torch's sums depend on the number of threads
_SATURATING = torch.float8_e4m3fn  # has no infinity: larger values become the maximum


class Merged(NamedTuple):
    """A merged tensor, or a run of its elements.

    Attributes:
        inputs: the models' entries, then the base's if there is one, in the working dtype or as
            they are stored; empty for BatchNorm variances.
        merged: before rounding.
        rounded: in the output's dtype; all on the device on which they were merged.
    """

    inputs: Sequence[Tensor]
    merged: Tensor
    rounded: Tensor


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use this number of threads, for the calling thread's work."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_large(plan: TensorPlan) -> bool:
    """Whether a tensor is merged apart from others, to bound memory."""
    return plan.num_elements > _ALONE


def is_elementwise(plan: TensorPlan) -> bool:
    """Whether a tensor is merged run by run."""
    return plan.recipe.is_elementwise and plan.is_weight


def measures_masks(plan: TensorPlan) -> bool:
    """Whether what is measured of a tensor grows with it: the masks of a random method by rows."""
    return is_elementwise(plan) and plan.row is not None and plan.recipe.method_itself.is_random


def runs_of(plan: TensorPlan, spread: Any = map, device: Device = CPU) -> Runs:
    """Return the entries of a tensor in all models, read run by run to a device.

    `spread` is as in `Runs`.
    """

    def read(first: int, last: int, step: int = 1) -> Run:
        return _run_of(plan, first, _sent_run(plan, first, last, device, step)())

    at_once = device.runs_at_once(len(plan.origins))
    return Runs(len(plan.inputs), plan.num_elements, read, spread, plan.row, at_once)


def read_run(
    plan: TensorPlan, first: int, last: int, device: Device = CPU
) -> Arrival[Sequence[Tensor]]:
    """Read the elements [first, last) of the models, then of the base, and send them to a device.

    Returns:
        The elements in the working dtype, once they have arrived; or an InputError is raised then,
        if a value is not finite.
    """
    sent = _sent_run(plan, first, last, device)

    def arrived() -> Sequence[Tensor]:
        inputs = sent()
        _check_run(plan, _run_of(plan, first, inputs))
        return inputs

    return arrived


def merge_run(plan: TensorPlan, measured: Any, first: int, inputs: Sequence[Tensor]) -> Merged:
    """Merge a run of elements by an elementwise method.

    Args:
        plan: of the tensor.
        measured: what the method measured of the whole tensor.
        first: position of the first element.
        inputs: as from `read_run`.

    Raises:
        InputError: the method cannot merge them, or a value is not finite in the output's dtype.
    """
    merged = plan.recipe.merge_run(plan.name, _run_of(plan, first, inputs), measured)
    return Merged(inputs, merged, _rounded(plan, merged))


def read_whole(plan: TensorPlan) -> list[Tensor]:
    """Read a tensor of all models, then of the base, in the working dtype.

    Empty for BatchNorm variances, which are read with the means.
    """
    if plan.inputs[0].is_variance:
        return []
    # In the working dtype, so that it is rounded only once.
    return [origin.read().to(plan.working_dtype) for origin in plan.origins]


def merge_whole(plan: TensorPlan, inputs: Sequence[Tensor], device: Device = CPU) -> Merged:
    """Merge a tensor as a whole.

    It is merged on the CPU if the device lacks the memory, and if it is an integer or a statistic
    of BatchNorm, which are small.

    Args:
        plan: of the tensor.
        inputs: as from `read_whole`.
        device: on which it is merged.

    Raises:
        InputError: as for `merge_run`.
    """
    if plan.is_weight:
        try:
            return _merge_whole(plan, device.send(inputs)())
        except torch.OutOfMemoryError:  # which devices raise
            device.lacks_memory_for(plan.name)
    return _merge_whole(plan, inputs)


def _merge_whole(plan: TensorPlan, inputs: Sequence[Tensor]) -> Merged:
    with torch_threads(_TORCH_THREADS if is_large(plan) else 1):
        try:
            if plan.inputs[0].is_variance:
                variances = [origin.read().double() for origin in plan.inputs]
                means = [origin.mean.read() for origin in plan.inputs]
                merged = merge_running_vars(plan.name, variances, means, plan.recipe.shares)
            else:
                merged = _merged_weights(plan, inputs)
        except InputError:
            check_finite(plan)
            raise
        return Merged(inputs, merged, _rounded(plan, merged))


def _merged_weights(plan: TensorPlan, inputs: Sequence[Tensor]) -> Tensor:
    tensors = inputs[: len(plan.inputs)]
    base = None if plan.base is None else inputs[-1]
    taken = base if plan.recipe.method_itself.takes_base else None
    if _may_be_pruned(plan):
        check_agreement(plan.name, tensors, taken, plan.recipe.masks)
    return merge_tensor(plan.name, tensors, plan.recipe, base)


def extra_rows(plan: TensorPlan, first: int, last: int) -> Tensor:
    """Return the elements [first, last) of a flattened tensor, which are copied from one model.

    Raises:
        InputError: a value is not finite.
    """
    assert plan.extra_rows is not None
    origin, dtype = plan.extra_rows, plan.type[0]
    rounded = origin.source.read_run(origin.name, first, last).to(dtype)
    if not torch.isfinite(rounded.float()).all():
        raise InputError(
            f"{origin.stored.file}: tensor {origin.name!r}: has a value that is not finite in "
            f"{dtype}"
        )
    return rounded


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


def _check_run(plan: TensorPlan, run: Run) -> None:
    """Check a run that was read: a method might drop values that are not finite."""
    # A few zeros of a short last run are no mask.
    if _may_be_pruned(plan) and (run.start == 0 or run.tensors[0].numel() >= run_size(plan.row)):
        check_agreement(plan.name, run.tensors, run.base, plan.recipe.masks)
    if plan.recipe.method_itself.is_sum and plan.recipe.masks in (None, "none"):
        return  # they are seen in the result
    # A cheap test: finite values may have an infinite sum, so failures are examined.
    if not all(
        torch.isfinite(tensor.sum()) for tensor in (*run.tensors, run.base) if tensor is not None
    ):
        check_finite(plan)


def _may_be_pruned(plan: TensorPlan) -> bool:
    """Whether zeros of a tensor may be a mask; those of a norm's scale and of few bits are not."""
    rounded = any(origin.source.may_round_to_zero(origin.name) for origin in plan.origins)
    return len(plan.type[1]) >= 2 and not rounded


def _sent_run(
    plan: TensorPlan, first: int, last: int, device: Device, step: int = 1
) -> Arrival[Sequence[Tensor]]:
    """Send every `step`-th entry of the models, then of the base if there is one."""
    stored = [origin.source.read_run(origin.name, first, last) for origin in plan.origins]
    sent = device.send(stored if step == 1 else [each[::step] for each in stored])
    if plan.reads_stored:
        return sent
    dtype = plan.working_dtype
    return lambda: [entries.to(dtype) for entries in sent()]


def _run_of(plan: TensorPlan, first: int, entries: Sequence[Tensor]) -> Run:
    entries = [in_rows(each, plan.row) for each in entries]
    if plan.base is None:
        return Run(first, entries, None)
    *models, base = entries
    return Run(first, models, base if plan.recipe.method_itself.takes_base else None)


def _rounded(plan: TensorPlan, merged: Tensor) -> Tensor:
    """Round to the output's dtype; refuse values that are not finite or overflow it."""
    rounded = merged.to(plan.type[0])
    if rounded.is_floating_point() and merged.numel():
        low, high = torch.aminmax(merged)  # NaN if an entry is
        limit = torch.finfo(rounded.dtype).max
        if not (low >= -limit and high <= limit):
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
