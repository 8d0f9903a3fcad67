"""The result of a diagnostic, as plain values; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from stockpot.plugins import check_takes

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Alert:
    """A warning about one model, shown at the top of the report.

    Attributes:
        model: name of the model.
        reason: the problem with its evidence, in one clause.
    """

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one diagnostic.

    Attributes:
        sentence: the conclusion with its figures, for the report.
        metrics: a few numbers by name, for tracking.
        data: the data of its plot and table; JSON without NaN.
        alerts: models that should not be in a soup.
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


def diagnostic_of(name: str, found: T) -> T:
    """Return a function as a diagnostic.

    Raises:
        InputError: it is no function of one argument, a `DiagnosticContext`.
    """
    check_takes(f"diagnostic {name!r}", found, "context")
    return found
