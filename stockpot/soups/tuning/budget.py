"""The end of a search: after trials, seconds or evaluations."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

_TRIALS_PER_EVALUATION = 10
"""Trials after which a search of few distinct candidates ends, per evaluation of its budget."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search ends; one of the three is given.

    Attributes:
        trials: number of candidates.
        seconds: duration; the batch that is evaluated then is finished.
        evaluations: number of different candidates, since equal ones are scored once.
    """

    trials: int | None = None
    seconds: float | None = None
    evaluations: int | None = None
    _started: float = field(default_factory=time.monotonic)

    @property
    def most_trials(self) -> int | None:
        """The number of trials after which it ends in any case; None for a budget of seconds."""
        if self.evaluations is not None:
            return self.evaluations * _TRIALS_PER_EVALUATION
        return self.trials

    def is_spent(self, trials: int, evaluations: int) -> bool:
        """Return whether the search ends after this many."""
        if self.seconds is not None:
            return trials > 0 and time.monotonic() - self._started >= self.seconds
        is_done = self.evaluations is not None and evaluations >= self.evaluations
        return is_done or trials >= (self.most_trials or 0)
