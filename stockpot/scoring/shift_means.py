"""The mean of a metric over shifts, as values whose plain mean it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stockpot.statistics.values import Floats
from stockpot.workloads.spec import WorkloadSpec


def are_copies(workload: WorkloadSpec, shifts: Sequence[str]) -> list[bool]:
    """Say of each shift whether it holds the examples of its split, changed."""
    known = workload.build().shifts()
    return [known[name].is_copy for name in shifts]


def mean_over_shifts(values: Sequence[Floats], are_copies: Sequence[bool]) -> Floats:
    """Return values whose mean is the mean over shifts, each of which counts the same.

    Copies hold the same examples, so an example's mean over them is one value. Shifts that hold
    other examples put their own beside those, each in proportion to what it counts: one of a
    small shift counts more. Intervals of the mean so are those of independent examples, and a
    little too wide where shifts are of different difficulty.

    Args:
        values: of each shift, (..., N); N may differ between shifts that are no copies.
        are_copies: which shifts are copies of their split.

    Returns:
        Values (..., N), of all examples that are not the same.
    """
    copies = [each for each, is_copy in zip(values, are_copies, strict=True) if is_copy]
    groups = [(np.mean(copies, axis=0), len(copies))] if copies else []
    groups += [(each, 1) for each, is_copy in zip(values, are_copies, strict=True) if not is_copy]
    if len(groups) == 1:
        return np.asarray(groups[0][0])
    total = sum(each.shape[-1] for each, _ in groups)
    weighted = [each * (total * count / (len(values) * each.shape[-1])) for each, count in groups]
    return np.concatenate(weighted, axis=-1)
