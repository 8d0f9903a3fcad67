"""Checks of the shifts, of augmentation, and of what a worker process gets to see."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace

import torch

from stockpot.seeding import seeded_generator
from stockpot.workload_checks.subject import Subject, build, copied, equal, sample, sampled_digests
from stockpot.workers import WorkerPool
from stockpot.workloads.batches import num_examples
from stockpot.workloads.spec import WorkloadSpec


def shifts_are_those_named(subject: Subject) -> str | None:
    """`shifts()` has the names that the workload was built with, each of its split."""
    spec = subject.spec
    expected = dict.fromkeys(spec.val_shifts, "val") | dict.fromkeys(spec.test_shifts, "test")
    found = {name: shift.split for name, shift in subject.workload.shifts().items()}
    if found != expected:
        return (
            f"shifts(): must be those that val_shifts and test_shifts name, {expected}, "
            f"got {found}; leave out those that are not named"
        )
    if left := {*subject.without_shifts().shifts()}:
        return f"shifts(): must be empty if none is named, got {sorted(left)}"
    return None


def shifts_keep_the_order(subject: Subject) -> str | None:
    """A shifted copy has the examples of its split, in their order, with other inputs."""
    for name, shift in subject.workload.shifts().items():
        original, dataset = subject.workload.dataset(shift.split), shift.dataset()
        if num_examples(dataset) != num_examples(original):
            return (
                f"shift {name!r}: must have one example for each of {shift.split}, "
                f"got {num_examples(dataset)} for {num_examples(original)}"
            )
        before, after = sample(original), sample(dataset)
        if not torch.equal(before[-1], after[-1]):
            return (
                f"shift {name!r}: its targets must be those of {shift.split}, in their order, "
                "got others; shift the inputs alone"
            )
        if equal(before, after):
            return f"shift {name!r}: must change the inputs, got those of {shift.split}"
    return None


def shifts_repeat(subject: Subject) -> str | None:
    """A shifted copy is the same each time, whatever other shifts there are."""
    for name, shift in subject.workload.shifts().items():
        first = sample(shift.dataset())
        if not equal(first, sample(shift.dataset())):
            return (
                f"shift {name!r}: must be the same each time, got other examples; "
                "draw from seeded_generator(seed, name)"
            )
        only = {"val_shifts": (), "test_shifts": (), f"{shift.split}_shifts": (name,)}
        alone = build(replace(subject.spec, **only)).shifts()[name]
        if not equal(first, sample(alone.dataset())):
            return (
                f"shift {name!r}: must depend on the seed and its name alone, got other examples "
                "where it is the only shift; use a generator of its own"
            )
    return None


def augmentation_keeps_the_form(subject: Subject) -> str | None:
    """Strength 0 changes nothing; more depends on the generator alone and keeps the targets."""
    workload, batch = subject.workload, subject.batch
    before = copied(batch)
    if not equal(workload.augment(batch, 0.0, seeded_generator(0)), before):
        return "augment(): must return the batch itself at strength 0, got another"
    first, again = (workload.augment(batch, 1.0, seeded_generator(0)) for _ in range(2))
    if not equal(batch, before):
        return "augment(): must leave the batch that it is given as it is; change a copy"
    if not equal(first, again):
        return (
            "augment(): must draw from the generator that it is given alone, "
            "got two results from equal ones"
        )
    forms = [[(tensor.shape, tensor.dtype) for tensor in each] for each in (first, before)]
    if forms[0] != forms[1]:
        return f"augment(): must keep shapes and dtypes, got {forms[0]} for {forms[1]}"
    if not torch.equal(first[-1], before[-1]):
        return "augment(): must keep the targets, got others"
    return None


def worker_sees_the_same(subject: Subject) -> str | None:
    """The workload can be sent to a worker process, and has the same examples there."""
    try:
        pickle.dumps(subject.spec)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        return f"options: must be numbers, text and booleans, got what cannot be sent: {error}"
    pool = WorkerPool(["cpu"], threads=1)
    try:
        found = pool.run(_digests_there, subject.spec)
    except Exception as error:  # noqa: BLE001 (whatever the user's code raises there)
        return (
            f"worker process: must build the workload from its name, got "
            f"{type(error).__name__}: {error}; keep its module importable by its name, and set "
            "nothing up outside the class"
        )
    finally:
        pool.close()
    return _difference(found, sampled_digests(subject.workload))


def _digests_there(spec: WorkloadSpec, device: str) -> dict[str, list[bytes]]:  # noqa: ARG001 (a job has a device)
    """Hash samples; runs in a worker process."""
    return sampled_digests(build(spec))


def _difference(
    found: Mapping[str, list[bytes]], expected: Mapping[str, list[bytes]]
) -> str | None:
    for name, digests in expected.items():
        if found[name] != digests:
            return (
                f"{name}: must be the same in every process, got other examples in a worker; "
                "sort sets and listings, and do not use the hash() of strings"
            )
    return None
