"""Clustering by minimum cuts: groups with the least similarity between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stockpot.statistics.values import Floats

_GAIN = 1e-12  # a smaller one is rounding, and the search would not end


def split_into_groups(
    similarities: Floats, *, threshold: float = 0.0, max_groups: int = 4
) -> list[list[int]]:
    """Split items into groups at minimum cuts, the least similar parts first.

    Args:
        similarities: between K items, (K, K), symmetric; K at least 1.
        threshold: a group is split if the mean similarity between its parts is lower.
        max_groups: at most so many groups.

    Returns:
        Positions in each group, ascending; groups ordered by their first position.

    Source: Hu et al. 2022, https://arxiv.org/abs/2203.15207, who split the operators of a supernet
    by balanced minimum cuts. Here balance comes from the mean between parts instead of the sum:
    parts of equal size would group a single foreign ingredient with others.
    """
    groups = [list(range(len(similarities)))]
    while len(groups) < max_groups:
        cuts = [_cut_of(group, similarities) for group in groups if len(group) > 1]
        value, part, rest = min(cuts, default=(np.inf, [], []))
        if value >= threshold:
            break
        groups.remove(sorted(part + rest))
        groups += [part, rest]
    return sorted(groups)


def minimum_cut(similarities: Floats) -> tuple[float, list[int]]:
    """Find two parts with the least mean similarity between them.

    The search is local and moves one item at a time. It starts from every single item, and from
    every cut of the items in the order of an eigenvector.

    Args:
        similarities: between K items, (K, K), symmetric; K at least 2.

    Returns:
        The mean similarity between the parts, and the part that contains the first item.
    """
    improved = (_improve(start, similarities) for start in _starts(similarities))
    value, chosen = min(improved, key=lambda found: found[0])
    return value, np.flatnonzero(chosen == chosen[0]).tolist()


def mean_between(similarities: Floats, part: Sequence[int]) -> float:
    """Return the mean similarity between a part and the rest; neither is empty."""
    rest = np.setdiff1d(np.arange(len(similarities)), part)
    return float(similarities[np.array(part)][:, rest].mean())


def _cut_of(group: list[int], similarities: Floats) -> tuple[float, list[int], list[int]]:
    value, part = minimum_cut(similarities[np.ix_(group, group)])
    chosen = {group[place] for place in part}
    return value, sorted(chosen), [member for member in group if member not in chosen]


def _starts(similarities: Floats) -> Iterator[NDArray[np.bool_]]:
    """Yield membership of one part: each item alone, and the cuts along each eigenvector."""
    size = len(similarities)
    yield from np.eye(size, dtype=np.bool_)
    _, vectors = np.linalg.eigh(similarities)
    for vector in vectors.T:
        ranks = np.argsort(np.argsort(vector, kind="stable"))
        yield from (ranks < length for length in range(2, size - 1))


def _improve(chosen: NDArray[np.bool_], similarities: Floats) -> tuple[float, NDArray[np.bool_]]:
    """Move the item that lowers the mean most to the other part, until none does."""
    chosen = chosen.copy()
    size, others = len(chosen), similarities - np.diag(np.diag(similarities))
    value = mean_between(similarities, np.flatnonzero(chosen).tolist())
    while True:
        num_in = int(chosen.sum())
        between = value * num_in * (size - num_in)
        to_part = others @ chosen
        to_rest = others.sum(axis=1) - to_part
        sums = between + np.where(chosen, to_part - to_rest, to_rest - to_part)
        sizes = np.where(chosen, num_in - 1, num_in + 1)
        counts = sizes * (size - sizes)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
        place = int(means.argmin())
        if means[place] >= value - _GAIN:
            return value, chosen
        value = float(means[place])
        chosen[place] = not chosen[place]
