"""Checks of the shifts and of augmentation.

Each check takes a `CheckedWorkload` and returns what is wrong and what to change, or None.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from stockpot.plugins import Skipped
from stockpot.seeding import seeded_generator
from stockpot.workloads.batches import num_examples
from stockpot.workloads.checks.checked_workload import CheckedWorkload
from stockpot.workloads.checks.data_errors import shared_examples, too_few_examples
from stockpot.workloads.checks.examples import copied, equal, parts_of, sample
from stockpot.workloads.protocol import Shift


def shifts_are_those_chosen(checked: CheckedWorkload) -> str | None:
    """`shifts()` has the names that the workload was built with, each with its split."""
    spec = checked.spec
    expected = dict.fromkeys(spec.val_shifts, "val") | dict.fromkeys(spec.test_shifts, "test")
    found = {name: shift.split for name, shift in checked.workload.shifts().items()}
    if found != expected:
        return (
            f"shifts(): must be those in val_shifts and test_shifts, {expected}, "
            f"got {found}; return only the chosen ones"
        )
    if left := {*checked.without_shifts().shifts()}:
        return f"shifts(): must be empty if none is chosen, got {sorted(left)}"
    return None


def copies_keep_the_order(checked: CheckedWorkload) -> str | None:
    """A shifted copy has its split's targets in their order, and other inputs."""
    copies = {name: shift for name, shift in checked.shifts().items() if shift.is_copy}
    if not copies:
        raise Skipped("no shift is a copy of its split")
    for name, shift in copies.items():
        if problem := _not_a_copy(checked, shift):
            return f"shift {name!r}: {problem}"
    return None


def other_examples_are_new(checked: CheckedWorkload) -> str | None:
    """A shift of other examples (is_copy=False) has examples, and none of train."""
    others = {name: shift for name, shift in checked.shifts().items() if not shift.is_copy}
    if not others:
        raise Skipped("each shift is a copy of its split")
    for name, shift in others.items():
        sets = {"train": checked.workload.dataset("train"), shift.split: shift.dataset()}
        examples = {split: parts_of(dataset) for split, dataset in sets.items()}
        if problem := too_few_examples(sets) or shared_examples(examples, tolerated=0.0):
            return f"shift {name!r}: {problem}"
    return None


def shifts_repeat(checked: CheckedWorkload) -> str | None:
    """A shift is the same each time, and independent of other shifts."""
    for name, shift in checked.shifts().items():
        first = sample(shift.dataset())
        if not equal(first, sample(shift.dataset())):
            return (
                f"shift {name!r}: must be the same each time, got other examples; "
                "draw from seeded_generator(seed, name)"
            )
        only = {"val_shifts": (), "test_shifts": (), f"{shift.split}_shifts": (name,)}
        alone = replace(checked.spec, **only).build_again().shifts()[name]  # type: ignore[arg-type]
        if not equal(first, sample(alone.dataset())):
            return (
                f"shift {name!r}: must depend on the seed and its name alone, got other examples "
                "where it is the only shift; use one generator per shift"
            )
    return None


def augmentation_keeps_shapes_and_targets(checked: CheckedWorkload) -> str | None:
    """Strength 0 changes nothing; otherwise inputs alone change, by the generator alone."""
    workload, batch = checked.workload, checked.batch
    before = copied(batch)
    if not equal(workload.augment(batch, 0.0, seeded_generator(0)), before):
        return "augment(): must return the batch itself at strength 0, got another"
    first, again = (workload.augment(batch, 1.0, seeded_generator(0)) for _ in range(2))
    if not equal(batch, before):
        return "augment(): must leave the batch unchanged, got a modified one; change a copy"
    if not equal(first, again):
        return "augment(): must draw from the given generator only, got two results from equal ones"
    forms = [[((*tensor.shape,), tensor.dtype) for tensor in each] for each in (first, before)]
    if forms[0] != forms[1]:
        return f"augment(): must keep shapes and dtypes, {forms[1]}, got {forms[0]}"
    if not torch.equal(first[-1], before[-1]):
        return "augment(): must keep the targets, got others; change only the inputs"
    return None


def _not_a_copy(checked: CheckedWorkload, shift: Shift) -> str | None:
    original, dataset = checked.workload.dataset(shift.split), shift.dataset()
    if num_examples(dataset) != num_examples(original):
        return (
            f"must have one example for each of {shift.split}, {num_examples(original)}, got "
            f"{num_examples(dataset)}; for other examples, use Shift(..., is_copy=False)"
        )
    before, after = sample(original), sample(dataset)
    if not torch.equal(before[-1], after[-1]):
        return (
            f"its targets must be those of {shift.split}, in their order, got others; "
            "shift only the inputs, or use Shift(..., is_copy=False)"
        )
    if equal(before, after):
        return f"must change the inputs, got those of {shift.split}"
    return None
