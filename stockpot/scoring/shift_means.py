"""The mean of a metric over shifts, as per-example values with that mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stockpot.statistics.values import Floats
from stockpot.workloads.spec import WorkloadSpec


def are_copies(workload: WorkloadSpec, shifts: Sequence[str]) -> list[bool]:
    """Return for each shift whether it is a modified copy of its split."""
    known = workload.build().shifts()
    return [known[name].is_copy for name in shifts]


def mean_over_shifts(values: Sequence[Floats], are_copies: Sequence[bool]) -> Floats:
    """Return values whose mean is the mean over shifts, each of which counts the same.

    Copies hold the same examples, so the mean of an example over copies is one value. Shifts with
    other examples add their own values, weighted so that each shift counts the same: an example of
    a small shift counts more. Intervals of the mean are then those of independent examples, and
    slightly too wide if shifts differ in difficulty.

    Args:
        values: values of each shift, (..., N); N may differ between shifts that are not copies.
        are_copies: which shifts are copies of their split.

    Returns:
        Values (..., N) of all distinct examples.
    """
    copies = [each for each, is_copy in zip(values, are_copies, strict=True) if is_copy]
    groups = [(np.mean(copies, axis=0), len(copies))] if copies else []
    groups += [(each, 1) for each, is_copy in zip(values, are_copies, strict=True) if not is_copy]
    if len(groups) == 1:
        return np.asarray(groups[0][0])
    total = sum(each.shape[-1] for each, _ in groups)
    weighted = [each * (total * count / (len(values) * each.shape[-1])) for each, count in groups]
    return np.concatenate(weighted, axis=-1)
