"""Provenance: the record of what is needed to rebuild a model, as plain values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is needed to rebuild a model.

    Attributes:
        model: the model as recorded; its details say how it was made.
        workload: what it was trained or chosen on.
        seed: of a merge method that draws random numbers.
        threads: torch threads of the worker that trained it.
        base: what it, or its ingredients, were trained from; None for a base.
        ingredients: name and weights of the models that were merged, in the order of the merge.
    """

    model: Model
    workload: WorkloadSpec
    seed: int = 0
    threads: int = 1
    base: Checkpoint | None = None
    ingredients: tuple[tuple[str, Checkpoint], ...] = ()

    def to_text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_text(cls, text: str) -> Provenance:
        """Read the text that `to_text` returns."""
        values = json.loads(text)
        workload = values["workload"]
        for name in ("val_shifts", "test_shifts"):
            workload[name] = tuple(workload[name])
        workload["options"] = tuple(map(tuple, workload["options"]))
        return cls(
            model=Model(**values["model"]),
            workload=WorkloadSpec(**workload),
            seed=values["seed"],
            threads=values["threads"],
            base=Checkpoint(**values["base"]) if values["base"] else None,
            ingredients=tuple(
                (name, Checkpoint(**reference)) for name, reference in values["ingredients"]
            ),
        )
