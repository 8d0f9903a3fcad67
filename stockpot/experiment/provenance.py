"""Provenance: the record from which a model can be rebuilt, as plain values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from stockpot.storage.checkpoints import Checkpoint
from stockpot.storage.models import Model
from stockpot.workloads.spec import WorkloadSpec


@dataclass(frozen=True, slots=True)
class Provenance:
    """The choices and the weights from which a model can be rebuilt.

    Attributes:
        model: the model as recorded; its details say how it was made.
        workload: what it was trained or chosen on.
        seed: of a merge method that draws random numbers.
        threads: torch threads of the worker that trained it.
        base: what it, or its ingredients, were trained from; None for a base.
        ingredients: name and weights of the models that were merged, in the order of the merge;
            of an aligned ingredient, the model that it was aligned to, and itself before that.
        anchor: the model that its training was held near, if that is not what it started from.
    """

    model: Model
    workload: WorkloadSpec
    seed: int = 0
    threads: int = 1
    base: Checkpoint | None = None
    ingredients: tuple[tuple[str, Checkpoint], ...] = ()
    anchor: Checkpoint | None = None

    def to_text(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_text(cls, text: str) -> Provenance:
        """Read the text that `to_text` returns."""
        return TypeAdapter(cls).validate_json(text)
