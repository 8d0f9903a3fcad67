"""A workload as plain values: what is sent to a worker process and hashed into content keys."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from stockpot.storage.keys import code_digest
from stockpot.workloads.protocol import Workload
from stockpot.workloads.registry import build_workload

TRAINING_CODE = (
    *("finetuning", "workloads", "seeding.py"),
    *("alignment/batch_norm.py", "merging/sparse_masks.py"),
)
"""What makes weights of a workload and hyperparameters."""

SCORING_CODE = (
    "evaluation/outputs.py",
    "evaluation/predictions.py",
    "evaluation/val_gradients.py",
    "evaluation/val_scores.py",
)
"""What makes val scores of a workload and weights; the rest of `evaluation` judges."""


_IS_CODE = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """All that `build_workload` needs.

    Attributes:
        name: a built-in workload or `module:Class`.
        seed: fixes the splits and the shifted copies.
        val_shifts: shifts that may guide choices.
        test_shifts: shifts that are reported only.
        options: further arguments of the workload, as sorted pairs.
    """

    name: str
    seed: int
    val_shifts: tuple[str, ...] = ()
    test_shifts: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def build(self) -> Workload:
        """Build the workload, once a process."""
        return _build(self)

    def training_inputs(self) -> dict[str, Any]:
        """Return what the weights trained on this workload depend on: all but the shifts."""
        return {
            "workload": self.name,
            "options": dict(self.options),
            "data": self.build().data_digest(),
            "code": code_digest(*TRAINING_CODE, *self._own_code()),
        }

    def passing_inputs(self, set_name: str) -> dict[str, Any]:
        """Return what outputs on one set depend on, beside the weights.

        Neither on which other sets there are, nor on what is made of outputs.
        """
        code = ("evaluation/outputs.py", "evaluation/predictions.py", "workloads", "seeding.py")
        split, _, shift = set_name.partition("_shift/")
        file = self.shift_files(split).get(shift)
        return {
            "set": set_name,
            **({"file": file} if file else {}),
            "workload": self.name,
            "seed": self.seed,
            "options": dict(self.options),
            "data": self.build().data_digest(),
            "code": code_digest(*code, *self._own_code()),
        }

    def scoring_inputs(self) -> dict[str, Any]:
        """Return what val scores depend on, beside the weights; which test shifts is not of it."""
        described = asdict(self)
        del described["test_shifts"]
        files = self.shift_files("val")
        return {
            **({"files": files} if files else {}),
            "spec": described,
            "data": self.build().data_digest(),
            "code": code_digest(*SCORING_CODE, "workloads", "seeding.py", *self._own_code()),
        }

    def shift_sets(self, split: str) -> list[str]:
        """Name the sets of a split's shifts: `val_shift/<name>` or `test_shift/<name>`."""
        shifts = self.build().shifts()
        return [f"{split}_shift/{name}" for name, shift in shifts.items() if shift.split == split]

    def shift_files(self, split: str) -> dict[str, str]:
        """Return the digests of the shifts of a split that have files of their own, by name."""
        shifts = self.build().shifts()
        return {
            n: shift.digest for n, shift in shifts.items() if shift.split == split and shift.digest
        }

    def _own_code(self) -> tuple[str, ...]:
        """Name the user's modules: that of the workload, and that of a model it builds."""
        names = (self.name, str(dict(self.options).get("model", "")))
        return tuple(name.partition(":")[0] for name in names if _IS_CODE.fullmatch(name))


@lru_cache(maxsize=4)
def _build(spec: WorkloadSpec) -> Workload:
    return build_workload(
        spec.name,
        seed=spec.seed,
        val_shifts=spec.val_shifts,
        test_shifts=spec.test_shifts,
        options=dict(spec.options),
    )
