"""Random splits of examples, and a check that given splits are disjoint.

Examples are identified by their content, any hashable value; equal ones are not separated.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

from stockpot.errors import InputError, unknown_name
from stockpot.seeding import seeded_generator
from stockpot.workloads.protocol import SPLITS

SHARES: Mapping[str, float] = MappingProxyType({"val": 0.15, "test": 0.15})
"""The shares of val and test; the rest is train."""

_FEWEST = 3  # different examples of a class: one per split


def split_by_seed(
    contents: Sequence[Hashable], seed: int, *, classes: Sequence[str] | None = None
) -> dict[str, list[int]]:
    """Divide examples into train (70 %), val and test (15 % each), by a permutation.

    Args:
        contents: the content of each example (N,); equal ones go to one split.
        seed: fixes the permutation.
        classes: the class of each example (N,): each class is divided in those shares, and has
            examples in each split. None: all examples are divided as one class.

    Returns:
        The indices of train, val and test, each in ascending order.

    Raises:
        InputError: a class has fewer than three different examples.
    """
    import torch

    groups: dict[Hashable, list[int]] = {}
    for index, content in enumerate(contents):
        groups.setdefault(content, []).append(index)
    strata: dict[str, list[list[int]]] = {}
    for group in groups.values():
        name = "all" if classes is None else classes[group[0]]
        strata.setdefault(name, []).append(group)
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for name in sorted(strata):
        members = strata[name]
        if len(members) < _FEWEST:
            raise InputError(
                f"class {name!r} must have {_FEWEST} different examples, one per split, "
                f"got {len(members)}"
            )
        generator = seeded_generator(seed, "split", name)
        order = torch.randperm(len(members), generator=generator).tolist()
        for place, split in zip(order, _places(len(members)), strict=True):
            parts[split].extend(members[place])
    return {split: sorted(indices) for split, indices in parts.items()}


def source_split(workload: str, split: str, parts: Mapping[str, object]) -> str:
    """Return the split whose examples `split` has: train, if pretrain has none of its own.

    Args:
        workload: its name, for messages.
        split: the split that is asked for.
        parts: the examples of each split.

    Raises:
        InputError: there is no such split.
    """
    if split not in SPLITS:
        raise unknown_name(f"split of the {workload} workload", split, SPLITS)
    return "train" if parts[split] == parts["train"] else split


def check_disjoint(contents: Mapping[str, Mapping[Hashable, str]]) -> None:
    """Check that no example of val or test is in another split; pretrain and train may overlap.

    Args:
        contents: by split and by content, the place of an example, e.g. a file and line; for
            splits that have examples of their own.

    Raises:
        InputError: val or test has an example of another split; with the first of them.
    """
    for other, name in combinations([split for split in SPLITS if split in contents], 2):
        both = [content for content in contents[name] if content in contents[other]]
        if both and name != "train":  # that other is pretrain
            raise InputError(
                f"{name} must have no example of {other}, got {len(both)}: "
                f"{contents[name][both[0]]} is {contents[other][both[0]]}; remove them from "
                "one of the two, or give all examples as one: equal ones then stay together"
            )


def _places(number: int) -> list[str]:
    """Return the split of each example by its position: val and test first, then train."""
    counts = {split: max(1, round(share * number)) for split, share in SHARES.items()}
    given = [split for split, count in counts.items() for _ in range(count)]
    return given + ["train"] * (number - len(given))
