"""Checks of the data: the splits, their examples, and the digest.

Each check takes a `CheckedWorkload` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

import time
from dataclasses import replace

from torch import Tensor

from stockpot.workloads.checks.checked_workload import CheckedWorkload
from stockpot.workloads.checks.data_errors import (
    Examples,
    non_finite_values,
    shared_examples,
    too_few_examples,
    unfit_targets,
)
from stockpot.workloads.checks.examples import equal, parts_of, sample
from stockpot.workloads.protocol import splits_of

_SLOW_SECONDS = 1.0


def splits_have_examples(checked: CheckedWorkload) -> str | None:
    """All splits have examples, which are tuples of tensors with the target last."""
    for split in splits_of(checked.workload):
        dataset = checked.workload.dataset(split)
        where = f"dataset({split!r})"
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            return (
                f"{where}: must be a map-style dataset, got {type(dataset).__name__}; "
                "return a TensorDataset, or give it __len__ and __getitem__"
            )
        if few := too_few_examples({split: dataset}):
            return few
        example = dataset[0]
        if not isinstance(example, (tuple, list)) or len(example) < 2:
            return (
                f"{where}[0]: must be a tuple of inputs and the target, "
                f"got {type(example).__name__}; return (input, target)"
            )
        if not all(isinstance(part, Tensor) for part in sample(dataset)):
            return f"{where}: examples must become tensors in a batch, got others"
    return None


def splits_are_disjoint(checked: CheckedWorkload) -> str | None:
    """No example of val or test is in another split; pretrain, train, reference may overlap."""
    return shared_examples(_examples(checked), tolerated=0.0)


def values_are_finite(checked: CheckedWorkload) -> str | None:
    """No input and no target is NaN or infinite."""
    return non_finite_values(_examples(checked))


def targets_fit_the_task(checked: CheckedWorkload) -> str | None:
    """Targets fit the task and the outputs; train has each class of val and test."""
    outputs = checked.outputs(checked.model(), checked.batch)
    return unfit_targets(checked.workload.task, outputs, _examples(checked))


def examples_repeat(checked: CheckedWorkload) -> str | None:
    """The same seed gives the same examples, whenever they are read."""
    for split, first in checked.samples.items():
        if not equal(first, sample(checked.workload.dataset(split))):
            return (
                f"dataset({split!r}): must give the same examples each time, got others; "
                "do random changes in augment()"
            )
        if not equal(first, sample(checked.rebuilt.dataset(split))):
            return (
                f"dataset({split!r}): must depend on the seed alone, got other examples from a "
                "second workload of the same seed; draw from seeded_generator(seed, ...), "
                "and sort listings of folders"
            )
    return None


def shapes_are_equal(checked: CheckedWorkload) -> str | None:
    """All splits and shifts have the dtypes and shapes of train; only texts differ in length."""
    samples = dict(checked.samples)
    for name, shift in checked.workload.shifts().items():
        samples[f"shift {name}"] = sample(shift.dataset())
    expected = [_form(tensor) for tensor in samples["train"]]
    for name, batch in samples.items():
        found = [_form(tensor) for tensor in batch]
        if found != expected:
            return f"{name}: its tensors must have the form of train's, {expected}, got {found}"
    return None


def digest_identifies_the_data(checked: CheckedWorkload) -> str | None:
    """The digest is fast, the same for the same data, and different for other data."""
    checked.workload.data_digest()
    start = time.monotonic()
    digest = checked.workload.data_digest()
    seconds = time.monotonic() - start
    if type(digest) is not str or not digest:
        return f"data_digest(): must be a string, such as a SHA-256 in hex, got {digest!r}"
    if seconds > _SLOW_SECONDS:
        return (
            f"data_digest(): must take less than {_SLOW_SECONDS:g} s, since it is called often, "
            f"got {seconds:.1f} s; hash the files once and cache the result"
        )
    others = {"when rebuilt": checked.rebuilt, "without shifts": checked.without_shifts()}
    for how, other in others.items():
        if other.data_digest() != digest:
            return (
                "data_digest(): must depend on files, seed and options only, got a different one "
                f"{how}; leave out shifts, times and the hash() of strings"
            )
    other = replace(checked.spec, seed=checked.spec.seed + 1).build_again()
    is_same = all(equal(own, sample(other.dataset(s))) for s, own in checked.samples.items())
    if other.data_digest() == digest and not is_same:
        return (
            "data_digest(): must be different for other examples, got the same for another seed, "
            "which changes the splits; put the seed into the hash"
        )
    return None


def _examples(checked: CheckedWorkload) -> Examples:
    splits = splits_of(checked.workload)
    return {split: parts_of(checked.workload.dataset(split)) for split in splits}


def _form(tensor: Tensor) -> str:
    """Describe dtype and shape of a tensor of examples, without their number."""
    is_tokens = tensor.ndim == 2 and not tensor.is_floating_point()
    shape = "(any length)" if is_tokens else (*tensor.shape[1:],)
    return f"{str(tensor.dtype).removeprefix('torch.')} {shape}"
