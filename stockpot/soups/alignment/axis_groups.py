"""Groups of axes that must be permuted together, built while a net is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from stockpot.soups.alignment.permutations import Axis

Entry: TypeAlias = tuple[int, int]
"""(group, entries per block) of an axis; axes of group 0 must not be permuted."""

FIXED: Entry = (0, 1)


class AxisGroups:
    """Disjoint sets of axes; a union has the name of the older group."""

    def __init__(self) -> None:
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
            self.fix(first)
            self.fix(second)
            return
        low, high = sorted((self._root(first[0]), self._root(second[0])))
        self._parents[high] = low

    def join_all(self, first: Sequence[Entry], second: Sequence[Entry]) -> None:
        """Join two tensors axis by axis."""
        for one, other in zip(first, second, strict=True):
            self.join(one, other)

    def fix(self, entry: Entry) -> None:
        """Exclude an axis from permutations."""
        self._parents[self._root(entry[0])] = 0

    def is_fixed(self, entry: Entry) -> bool:
        """Whether an axis is excluded from permutations so far."""
        return self._root(entry[0]) == 0

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
