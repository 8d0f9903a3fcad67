"""A rule of rounds of one's own."""

from __future__ import annotations

from stockpot.soups.rounds.changes import equal_shares, stepped, weighted_change
from stockpot.soups.rounds.rule import Merged, Round, ServerRule


class Part(ServerRule):
    """Go a part of the way to the mean."""

    def __init__(self, *, share: float, label: str = "none") -> None:
        if share <= 0:
            raise ValueError(f"share must be above 0, got {share}")
        self.share, self.label = share, label

    def merge(self, done: Round) -> Merged:
        shares = equal_shares(done)
        change = weighted_change(done, shares)
        return Merged(stepped(done, change, self.share, shares), shares=shares)


class NotARule:
    """Has none of the members."""
