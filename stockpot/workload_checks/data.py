"""Checks of the data: the splits, their examples, and the digest that stands for them.

Each check takes a `Subject` and returns what is wrong and what to change; None if all is well.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from stockpot.workload_checks.subject import (
    SPLITS,
    Subject,
    batches_of,
    build,
    digests,
    equal,
    sample,
)
from stockpot.workloads.batches import num_examples

_SLOW_SECONDS = 1.0
_FEWEST = {"pretrain": 1, "train": 1, "val": 2, "test": 2}


def splits_open(subject: Subject) -> str | None:
    """All four splits have examples: tuples of tensors, the target last."""
    for split in SPLITS:
        dataset = subject.workload.dataset(split)
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            return (
                f"dataset({split!r}): must be a map-style data set, got {type(dataset).__name__}; "
                "give it __len__ and __getitem__"
            )
        if num_examples(dataset) < _FEWEST[split]:
            return (
                f"dataset({split!r}): must have at least {_FEWEST[split]} examples, "
                f"got {num_examples(dataset)}"
            )
        example = dataset[0]
        if not isinstance(example, (tuple, list)) or len(example) < 2:
            return (
                f"dataset({split!r})[0]: must be a tuple of inputs and the target, "
                f"got {type(example).__name__}; return (input, target)"
            )
    return None


def splits_are_disjoint(subject: Subject) -> str | None:
    """No example of val or test stands in another split; pretrain and train may overlap."""
    places: dict[bytes, str] = {}
    for split in SPLITS:
        own: dict[bytes, str] = {}
        for batch in batches_of(subject.workload.dataset(split)):
            for digest in digests(batch):
                own.setdefault(digest, f"{split}[{len(own)}]")
        shared = [digest for digest in own if digest in places] if split in ("val", "test") else []
        if shared:
            first = shared[0]
            return (
                f"dataset({split!r}): must share no example with other splits, got {len(shared)}, "
                f"such as {own[first]}, which is {places[first]}; remove doubles before you split"
            )
        places |= own
    return None


def examples_repeat(subject: Subject) -> str | None:
    """The same seed gives the same examples, whenever they are read."""
    for split in SPLITS:
        first = subject.samples[split]
        if not equal(first, sample(subject.workload.dataset(split))):
            return (
                f"dataset({split!r}): must give the same examples each time, got others; "
                "put what is random into augment()"
            )
        if not equal(first, sample(subject.again.dataset(split))):
            return (
                f"dataset({split!r}): must depend on the seed alone, got other examples from a "
                "second workload of the same seed; draw from seeded_generator(seed, ...), "
                "and sort what a folder lists"
            )
    return None


def shapes_are_steady(subject: Subject) -> str | None:
    """All splits and shifts have one form; token ids alone may differ in length."""
    samples = dict(subject.samples)
    for name, shift in subject.workload.shifts().items():
        samples[f"shift {name}"] = sample(shift.dataset())
    expected = [_form(tensor) for tensor in samples["train"]]
    for name, batch in samples.items():
        found = [_form(tensor) for tensor in batch]
        if found != expected:
            return (
                f"{name}: its tensors must have the dtypes and shapes of train's, {expected}, "
                f"got {found}"
            )
        for position, tensor in enumerate(batch):
            if tensor.is_floating_point() and not tensor.isfinite().all():
                return f"{name}: tensor {position} must be finite, got NaN or infinity"
    return None


def targets_fit_the_task(subject: Subject) -> str | None:
    """Classes are integers that the outputs have; train has each class of val and test."""
    outputs = subject.outputs(subject.model(), subject.batch)
    targets = {split: _targets(subject, split) for split in SPLITS}
    if subject.workload.task == "regression":
        if outputs.shape != subject.batch[-1].shape:
            return (
                "regression: outputs must have the shape of the targets, "
                f"got {_shape(outputs)} and {_shape(subject.batch[-1])}"
            )
        return None
    if subject.workload.task != "classification":
        return None
    num_classes = outputs.shape[-1]
    for split, values in targets.items():
        if values.dtype != torch.int64 or values.ndim != 1:
            return (
                f"dataset({split!r}): the target of a class must be one int64, "
                f"got {values.dtype} {_shape(values)}"
            )
        if values.min() < 0 or values.max() >= num_classes:
            return (
                f"dataset({split!r}): targets must be in [0, {num_classes}), for the model has "
                f"{num_classes} outputs, got {values.min().item()} to {values.max().item()}"
            )
        missing = sorted({*values.tolist()} - {*targets["train"].tolist()})
        if split in ("val", "test") and missing:
            return f"dataset('train'): must have examples of each class of {split}, lacks {missing}"
    return None


def digest_stands_for_the_data(subject: Subject) -> str | None:
    """The digest is cheap, the same for the same data, and another for other data."""
    subject.workload.data_digest()
    start = time.monotonic()
    digest = subject.workload.data_digest()
    seconds = time.monotonic() - start
    if not isinstance(digest, str) or not digest:
        return f"data_digest(): must be a string, such as a SHA-256 in hex, got {digest!r}"
    if seconds > _SLOW_SECONDS:
        return (
            f"data_digest(): must take less than {_SLOW_SECONDS:g} s, for it is asked often, "
            f"got {seconds:.1f} s; hash the files once and keep the result"
        )
    others = {"built again": subject.again, "without shifts": subject.without_shifts()}
    for how, other in others.items():
        if other.data_digest() != digest:
            return (
                f"data_digest(): must depend on files, seed and options alone, got another {how}; "
                "leave out shifts, times and the hash() of strings"
            )
    other = build(replace(subject.spec, seed=subject.spec.seed + 1))
    is_same = all(equal(subject.samples[s], sample(other.dataset(s))) for s in SPLITS)
    if other.data_digest() == digest and not is_same:
        return (
            "data_digest(): must be another for other examples, got the same for another seed, "
            "which changes the splits; put the seed into the hash"
        )
    return None


def _targets(subject: Subject, split: str) -> Tensor:
    return torch.cat([batch[-1] for batch in batches_of(subject.workload.dataset(split))])


def _form(tensor: Tensor) -> str:
    """Describe what a tensor of examples has to keep."""
    is_tokens = tensor.ndim == 2 and not tensor.is_floating_point()
    shape = "any length" if is_tokens else tuple(tensor.shape[1:])
    return f"{str(tensor.dtype).removeprefix('torch.')} {shape}"


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
