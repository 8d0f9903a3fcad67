"""A workload as plain values, for worker processes and content keys."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from stockpot.storage.keys import content_key
from stockpot.workloads.building import build_workload
from stockpot.workloads.protocol import SPLITS, Workload
from stockpot.workloads.registry import WORKLOADS
from stockpot.workloads.samples import whole_and_size

_IS_CODE = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """The arguments of `build_workload`.

    Attributes:
        name: a built-in workload or `module:Class`.
        seed: fixes the splits and the shifted copies.
        val_shifts: shifts that may be used for choices.
        test_shifts: shifts that are reported only.
        options: further arguments of the workload, as sorted pairs.
    """

    name: str
    seed: int
    val_shifts: tuple[str, ...] = ()
    test_shifts: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def build(self) -> Workload:
        """Build the workload, once per process."""
        return _build(self)

    def build_again(self) -> Workload:
        """Build a new workload, which shares nothing with others."""
        return build_workload(
            self.name,
            seed=self.seed,
            val_shifts=self.val_shifts,
            test_shifts=self.test_shifts,
            options=dict(self.options),
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of the workload and of the custom model that an option names, if any."""
        model = str(dict(self.options).get("model", ""))
        own = (model.partition(":")[0],) if _IS_CODE.fullmatch(model) else ()
        return (WORKLOADS.module_of(self.name), *own)

    def training_key_parts(self) -> dict[str, Any]:
        """Return the key parts of weights trained on this workload: all but the shifts."""
        return {
            "workload": self.name,
            "options": dict(self.options),
            "data": self.build().data_digest(),
        }

    @property
    def set_names(self) -> tuple[str, ...]:
        """The names of all sets: the splits, then `val_shift/<name>` and `test_shift/<name>`."""
        val_shifts = (f"val_shift/{name}" for name in self.val_shifts)
        test_shifts = (f"test_shift/{name}" for name in self.test_shifts)
        return (*SPLITS, *val_shifts, *test_shifts)

    def set_digest(self, set_name: str) -> str:
        """Content digest of one set: 20 hex digits, equal for equal examples."""
        return content_key(**self.set_key_parts(set_name))

    def set_key_parts(self, set_name: str) -> dict[str, Any]:
        """Return the key parts of the examples of one set, which are independent of other sets.

        Args:
            set_name: pretrain, train, val, test, `val_shift/<name>` or `test_shift/<name>`; or a
                sample of one, `val[256]`.
        """
        whole, _ = whole_and_size(set_name)
        split, _, shift = whole.partition("_shift/")
        file = self.shift_files(split).get(shift)
        return {
            **self.training_key_parts(),
            **({"file": file} if file else {}),
            "set": set_name,
            "seed": self.seed,
        }

    def val_key_parts(self) -> dict[str, Any]:
        """Return the key parts of val and its shifts, which are independent of test shifts."""
        described = asdict(self)
        del described["test_shifts"]
        files = self.shift_files("val")
        return {
            **({"files": files} if files else {}),
            "spec": described,
            "data": self.build().data_digest(),
        }

    def shift_sets(self, split: str) -> list[str]:
        """Return the names of the sets of a split's shifts: `<split>_shift/<name>`."""
        shifts = self.build().shifts()
        return [f"{split}_shift/{name}" for name, shift in shifts.items() if shift.split == split]

    def shift_files(self, split: str) -> dict[str, str]:
        """Return the digests of the shifts of a split that have files of their own, by name."""
        shifts = self.build().shifts()
        return {
            n: shift.digest for n, shift in shifts.items() if shift.split == split and shift.digest
        }


@lru_cache(maxsize=4)
def _build(spec: WorkloadSpec) -> Workload:
    return spec.build_again()
