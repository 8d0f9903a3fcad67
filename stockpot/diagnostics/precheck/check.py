"""One check and how it came out; imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked.

    Attributes:
        ingredient: of which one; None for what concerns the data.
        name: what was checked.
        passed: whether it is as it should be.
        value: what was measured; None where it could not be.
        limit: what the value was compared with; None where any is fine.
        detail: the value in words; where it is not as it should be, the reason, in one clause.
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
    """Round to what is worth reading in a manifest."""
    return round(value, 6)
