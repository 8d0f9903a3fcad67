"""The result of one check; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        ingredient: its name; None for a check of the data.
        name: of the check.
        passed: whether the check passed.
        value: what was measured; None if nothing could be.
        limit: what the value was compared with; None without a limit.
        detail: the value in words, or the reason of the failure; one clause.
    """

    ingredient: str | None
    name: str
    passed: bool
    value: float | None
    limit: float | None
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the form in the manifest."""
        return asdict(self)


def rounded(value: float) -> float:
    """Round a value for the manifest."""
    return round(value, 6)
