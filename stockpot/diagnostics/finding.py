"""What a diagnostic found, as plain values; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a reader must know before any score.

    Attributes:
        model: whom it concerns.
        reason: what is wrong with it and how that was seen, in one clause.
    """

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one diagnostic.

    Attributes:
        sentence: what it means for the reader, in plain words, with the figures that say so.
        metrics: a few numbers by name, for tracking.
        data: all that its plot and its table are made of; JSON, without NaN.
        alerts: models that should not have been in a soup.
    """

    sentence: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the form in `results/diagnostics/<name>.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Finding:
        """Read the form that `to_json` gives."""
        alerts = tuple(Alert(**alert) for alert in content["alerts"])
        return cls(content["sentence"], content["metrics"], content["data"], alerts)
