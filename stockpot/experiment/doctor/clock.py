"""The clock of this machine against a server's: schedules and run times depend on both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from stockpot.experiment.doctor.outcome import Outcome

_NOTE_SECONDS = 5
_PROBLEM_SECONDS = 60


def check_clock(server: str, date: str | None, now: float | None = None) -> Iterator[Outcome]:
    """Compare the clocks.

    Args:
        server: its name, for messages.
        date: the header `Date` of an answer of the server, in whole seconds; None if it has none.
        now: seconds since 1970 when it came; by default now.
    """
    if date is None:
        return
    seconds = (time.time() if now is None else now) - parsedate_to_datetime(date).timestamp()
    ahead = "ahead of" if seconds > 0 else "behind"
    found = f"{abs(seconds):.0f} s {ahead} {server}'s"
    advice = "synchronise both clocks, e.g. with chrony or systemd-timesyncd"
    if abs(seconds) > _PROBLEM_SECONDS:
        yield Outcome("problem", "clock", found, f"runs start late or early: {advice}")
    elif abs(seconds) > _NOTE_SECONDS:
        yield Outcome("note", "clock", found, advice)
    else:
        yield Outcome("ok", "clock", f"agrees with {server}'s")
