"""The record of a model in a manifest: provenance, file and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from stockpot.storage.checkpoints import Checkpoint

_DENSE = 0.999


@dataclass(frozen=True, slots=True)
class Model:
    """One base, ingredient, soup or tuned soup.

    Attributes:
        name: unique in an experiment.
        kind: base, ingredient, soup or tuned.
        key: content key, a hash of everything that the weights depend on.
        digest: SHA-256 of its file, hex.
        path: its file, relative to the project root.
        bytes: size of the file.
        num_params: number of parameters and buffer entries.
        scores: val scores by name, fractions; higher is better except for `val/loss`.
        details: provenance: hyperparameters, or recipe, coefficients and steps.
    """

    name: str
    kind: str
    key: str
    digest: str
    path: str
    bytes: int
    num_params: int
    scores: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Checkpoint:
        """The reference to its weights."""
        return Checkpoint(self.path, self.key, self.digest)

    @property
    def num_nets(self) -> int:
        """How many nets its weights hold side by side; 1 for a net of the workload's own form."""
        return int(self.details.get("num_nets", 1))

    @property
    def density(self) -> float:
        """The fraction of its weights that are not 0; 1 where it was not recorded."""
        return float(self.details.get("density", 1.0))

    @property
    def is_dense(self) -> bool:
        """Whether it has no mask: in dense models, too, a few weights may be 0 by accident."""
        return self.density > _DENSE

    @property
    def is_aligned(self) -> bool:
        """Whether its units were permuted to match those of another model."""
        return "aligned" in self.details

    def scored(self, scores: Mapping[str, float]) -> Model:
        """Return a copy with these scores."""
        return replace(self, scores=dict(scores))

    def to_json(self) -> dict[str, Any]:
        """Return the form in a manifest, with the details merged into the fields."""
        fields = asdict(self)
        details: dict[str, Any] = fields.pop("details")
        return fields | details

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Model:
        """Build a model from the form that `to_json` returns."""
        own = {name: content[name] for name in cls.__dataclass_fields__ if name != "details"}
        details = {name: value for name, value in content.items() if name not in own}
        return cls(**own, details=details)


@dataclass(frozen=True, slots=True)
class Failure:
    """An ingredient that could not be made, with the reason.

    Attributes:
        name: that it would have had.
        key: its content key.
        hyperparameters: that it was trained with.
        reason: in words.
        final: whether a retry would fail in the same way, as after divergence but not after the
            loss of a worker.
    """

    name: str
    key: str
    hyperparameters: Mapping[str, float | str]
    reason: str
    final: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the form in a manifest."""
        return asdict(self)
