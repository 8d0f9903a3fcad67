"""Axes that must be permuted together, found while a net is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from stockpot.soups.alignment.permutations import Axis

Entry: TypeAlias = tuple[int, int]
"""(group, entries a block) of an axis; group 0 is of axes that must stay as they are."""

FIXED: Entry = (0, 1)


class AxisGroups:
    """Groups of axes, joined as it turns out that they are one; the first one's name stays."""

    def __init__(self) -> None:
        self._parents = [0]
        self._names = [""]

    def new(self, name: str) -> Entry:
        """Return an entry of a new group."""
        self._parents.append(len(self._parents))
        self._names.append(name)
        return len(self._parents) - 1, 1

    def join(self, first: Entry, second: Entry) -> None:
        """Let two axes have one order; of unlike blocks, no order but their own suits both."""
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
        """Let an axis stay as it is."""
        self._parents[self._root(entry[0])] = 0

    def is_fixed(self, entry: Entry) -> bool:
        """Say whether it is known already that an axis must stay as it is."""
        return self._root(entry[0]) == 0

    def axis(self, entry: Entry) -> Axis:
        """Return what a spec says of an axis."""
        root = self._root(entry[0])
        if root == 0:
            return None
        return self._names[root] if entry[1] == 1 else (self._names[root], entry[1])

    def _root(self, group: int) -> int:
        while self._parents[group] != group:
            group = self._parents[group]
        return group
