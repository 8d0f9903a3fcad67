"""The outcome of one check: fine, worth knowing, or in the way of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from stockpot.errors import reason_of

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The finding of a check.

    Attributes:
        level: ok; note: worth knowing, a run works; problem: a run or a schedule will fail.
        name: of what was checked.
        found: what was found.
        advice: what to do; empty if ok.
    """

    level: Level
    name: str
    found: str
    advice: str = ""


Check = Callable[[], Iterable[Outcome]]


def outcomes_of(name: str, check: Check) -> list[Outcome]:
    """Run a check; an error of its own is a problem, and the checks after it still run."""
    try:
        return [*check()]
    except Exception as error:  # noqa: BLE001 (a damaged project may raise anything)
        advice = "`stockpot --debug status` may show more"
        return [Outcome("problem", name, reason_of(error)[:300], advice)]
