"""Groups of axes that must be permuted together, built while a net is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch

from stockpot.soups.alignment.permutations import Axis

Entry: TypeAlias = tuple[int, int]
"""(group, entries per block) of an axis; axes of group 0 must not be permuted."""

FIXED: Entry = (0, 1)


class AxisGroups:
    """Disjoint sets of axes; a union has the name of the older group.

    Attributes:
        tensors: the entries of the net's tensors so far, by name.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, list[Entry]] = {}
        self._parents = [0]
        self._names = [""]

    def new(self, name: str) -> Entry:
        """Return an entry of a new group."""
        self._parents.append(len(self._parents))
        self._names.append(name)
        return len(self._parents) - 1, 1

    def join(self, first: Entry, second: Entry) -> None:
        """Require one order for two axes; with different block sizes, fix both."""
        if first[1] != second[1]:
            self.fix(first, second)
            return
        low, high = sorted((self._root(first[0]), self._root(second[0])))
        self._parents[high] = low

    def record(self, name: str, entries: Sequence[Entry]) -> None:
        """Record the entries of a tensor; several uses of one tensor are joined."""
        for known, entry in zip(self.tensors.setdefault(name, list(entries)), entries, strict=True):
            self.join(known, entry)

    def read(self, name: str, shape: torch.Size) -> list[Entry]:
        """Return the entries of a tensor that the net uses outside a layer."""
        if name not in self.tensors:
            self.tensors[name] = [
                FIXED if size == 1 else self.new(f"{name}:{axis}")
                for axis, size in enumerate(shape)
            ]
        return self.tensors[name]

    def fix(self, *entries: Entry) -> None:
        """Exclude axes from permutations."""
        for group, _ in entries:
            self._parents[self._root(group)] = 0

    def axis(self, entry: Entry) -> Axis:
        """Return the entry of an axis in a spec."""
        root = self._root(entry[0])
        if root == 0:
            return None
        return self._names[root] if entry[1] == 1 else (self._names[root], entry[1])

    def _root(self, group: int) -> int:
        while self._parents[group] != group:
            group = self._parents[group]
        return group
