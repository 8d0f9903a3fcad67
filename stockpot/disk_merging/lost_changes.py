"""Changes of models from their base that rounding to the output's dtype undoes.

In a 16-bit dtype, neighbouring values are far apart: in bfloat16 by 1/128 to 1/256 of the value.
A small change of a weight, times a small coefficient, then rounds back to the base's weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stockpot.merging.runs import MOST_ENTRIES
from stockpot.storage.weights.hub_origins import shown_name

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.disk_merging.planning.plan import TensorPlan

# Of eight runs one is measured: comparing all entries takes as long as a linear merge.
_GROUP = 8 * MOST_ENTRIES


@dataclass(frozen=True, slots=True)
class Changes:
    """Numbers of entries in which a model differs from the base; those of a group, extrapolated.

    Attributes:
        model: in the model itself.
        merged: of these, the entries in which the merge differs from the base, before rounding.
        written: of these, those that still differ after rounding both to the output's dtype.
    """

    model: int = 0
    merged: int = 0
    written: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.model + other.model, self.merged + other.merged, self.written + other.written
        )

    def times(self, numerator: int, denominator: int) -> Changes:
        """Return the numbers for more entries of the same kind."""
        return Changes(*(n * numerator // denominator for n in self.as_list()))

    def as_list(self) -> list[int]:
        """Return the three numbers, for a JSON file."""
        return [self.model, self.merged, self.written]


ChangesOf = Mapping[str, Changes]
"""Path of a model -> its changes."""


def total(parts: Iterable[ChangesOf]) -> dict[str, Changes]:
    """Add the changes of several runs, tensors or files."""
    added: dict[str, Changes] = {}
    for part in parts:
        for path, changes in part.items():
            added[path] = added.get(path, Changes()) + changes
    return added


def can_be_lost(plan: TensorPlan) -> bool:
    """Whether the changes of a tensor are counted: it has a base and is rounded to < 32 bits."""
    return plan.base is not None and plan.is_weight and plan.type[0].itemsize < 4


def count_changes(
    plan: TensorPlan, start: int, inputs: Sequence[Tensor], merged: Tensor, rounded: Tensor
) -> dict[str, Changes]:
    """Count the changes in a run of entries, or in a whole tensor.

    Args:
        plan: of the tensor.
        start: position of the first entry; only runs at the start of a group are counted.
        inputs: the entries of the models, then those of the base.
        merged: the merged entries before rounding.
        rounded: those that are written.
    """
    if not can_be_lost(plan):
        return {}
    *models, base = [tensor.reshape(-1) for tensor in inputs]
    merged, rounded = merged.reshape(-1), rounded.reshape(-1)
    counted = []
    for first in range(-start % _GROUP, len(base), _GROUP):
        run = slice(first, first + MOST_ENTRIES)
        num_in_group = min(_GROUP, plan.num_elements - start - first)
        of_models = _count([model[run] for model in models], base[run], merged[run], rounded[run])
        num_in_run = len(base[run])
        counted += [
            {str(origin.source.path): changes.times(num_in_group, num_in_run)}
            for origin, changes in zip(plan.inputs, of_models, strict=True)
        ]
    return total(counted)


def _count(
    models: Sequence[Tensor], base: Tensor, merged: Tensor, rounded: Tensor
) -> list[Changes]:
    is_merged = merged != base
    is_written = rounded != base.to(rounded.dtype)
    counts = []
    for model in models:
        differs = model != base
        masks = (differs, differs & is_merged, differs & is_written)
        counts.append(Changes(*map(_number_true, masks)))
    return counts


def _number_true(mask: Tensor) -> int:
    # On the CPU, numpy counts booleans several times as fast as torch.
    return int(np.count_nonzero(mask.numpy()) if mask.is_cpu else mask.count_nonzero())


def lost_changes(
    plans: Sequence[TensorPlan], facts: Iterable[Mapping[str, Sequence[int]]]
) -> list[str]:
    """Say per model which share of its changes the output has; warn where most are rounded away.

    Args:
        plans: one per tensor.
        facts: of each shard: path of a model -> the numbers of its changes.

    Returns:
        One note per model of whose changes the method keeps any.
    """
    changes_of = total({path: Changes(*n) for path, n in one.items()} for one in facts)
    dtype = " and ".join(
        sorted({str(p.type[0]).removeprefix("torch.") for p in plans if can_be_lost(p)})
    )
    return [
        _note(shown_name(Path(path)), changes, dtype)
        for path, changes in changes_of.items()
        if changes.merged
    ]


def _note(model: str, changes: Changes, dtype: str) -> str:
    text = (
        f"{model}: of the entries that it changed, {_percent(changes.merged, changes.model)} "
        f"differ from the base in the merge, {_percent(changes.written, changes.model)} still do "
        f"once rounded to {dtype}"
    )
    if 2 * changes.written >= changes.merged:
        return text
    lost = _percent(changes.merged - changes.written, changes.merged)
    return f"warning: {text}: {lost} of the merged changes are lost; keep them by `dtype: float32`"


def _percent(part: int, whole: int) -> str:
    """Return a share in words; only all and nothing are 100 % and 0 %."""
    share = 100 * part / whole
    return f"{min(max(share, 0.1), 99.9) if 0 < part < whole else share:.3g} %"
