"""Val scores of candidates, shared by all machines that run the same search.

Each machine runs the whole search and gets the same result; what one has scored, the others do not.
The scores are in a database of Optuna's at the address in STOCKPOT_STUDIES, one study per search.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from stockpot.errors import InputError, StageFailed
from stockpot.tracking.addresses import is_database, redacted
from stockpot.tracking.connection import explain

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import Trial

T = TypeVar("T")
Values = tuple[float, ...]

STUDIES = "STOCKPOT_STUDIES"
_CANDIDATE, _VALUES = "candidate", "values"  # attributes of a trial
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 10.0  # at least; another machine may be slower by a factor
_PATIENCE_FACTOR = 5.0
_TRIES = 5  # machines that create the tables at the same time get in each other's way


def studies_address() -> str | None:
    """Return the address of the database of shared scores; None if there is none.

    Raises:
        InputError: it is not the address of a database.
    """
    address = os.environ.get(STUDIES)
    if address and not is_database(address):
        raise InputError(
            f"{STUDIES}: must be the address of a database, got {redacted(address)!r}; "
            "e.g. postgresql://me@host/optuna"
        )
    return address or None


class SharedScores:
    """The scores of one search; several processes may use it at the same time.

    A process claims a candidate before it scores it. If a claim does not lead to scores in time,
    e.g. since its machine was switched off, whoever needs them scores the candidate again. Two
    processes may score one candidate by chance; the first result counts for all.
    """

    def __init__(self, address: str, name: str, num_objectives: int) -> None:
        """Open or create the study.

        Args:
            address: of the database.
            name: of the search: equal names have equal candidates and scores.
            num_objectives: number of scores per candidate.

        Raises:
            StageFailed: the database cannot be used.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._address = address
        with _answering(address):
            self._study: Study = optuna.create_study(
                storage=_open(address),
                study_name=name,
                directions=["maximize"] * num_objectives,
                load_if_exists=True,
            )
        self._states = optuna.trial.TrialState
        self._longest_seconds = 0.0

    def score(
        self, candidates: Mapping[str, T], evaluate: Callable[[T], Values]
    ) -> Sequence[Values]:
        """Score candidates that nobody has scored, and wait for those that others are scoring.

        Args:
            candidates: by keys that are the same on all machines.
            evaluate: scores one.

        Returns:
            The scores, in the order of the candidates.

        Raises:
            StageFailed: the database no longer answers.
        """
        with _answering(self._address):
            for key, candidate in candidates.items():
                if key not in self._values() and not self._claims(key):
                    self._score(key, candidate, evaluate)
            return [self._wait_for(key, one, evaluate) for key, one in candidates.items()]

    def _score(self, key: str, candidate: T, evaluate: Callable[[T], Values]) -> None:
        """Claim a candidate, and score it unless another process was faster."""
        trial = self._claim(key)
        if key in self._values() or min(self._claims(key)) < trial.number:
            self._study.tell(trial, state=self._states.PRUNED)
            return
        self._store(trial, candidate, evaluate)

    def _claim(self, key: str) -> Trial:
        trial = self._study.ask()
        trial.set_user_attr(_CANDIDATE, key)
        return trial

    def _store(self, trial: Trial, candidate: T, evaluate: Callable[[T], Values]) -> None:
        start = time.monotonic()
        values = evaluate(candidate)
        self._longest_seconds = max(self._longest_seconds, time.monotonic() - start)
        if trial.user_attrs[_CANDIDATE] in self._values():  # whoever waited for it was faster
            self._study.tell(trial, state=self._states.PRUNED)
            return
        trial.set_user_attr(_VALUES, list(values))
        if all(map(math.isfinite, values)):
            self._study.tell(trial, values)
        else:  # Optuna stores no such value
            self._study.tell(trial, state=self._states.FAIL)

    def _wait_for(self, key: str, candidate: T, evaluate: Callable[[T], Values]) -> Values:
        """Return the scores of a candidate; score it if whoever claimed it does not."""
        patience = max(_PATIENCE_SECONDS, _PATIENCE_FACTOR * self._longest_seconds)
        deadline = time.monotonic() + patience
        while (known := self._values().get(key)) is None:
            if time.monotonic() > deadline:
                self._store(self._claim(key), candidate, evaluate)
            else:
                time.sleep(_POLL_SECONDS)
        return known

    def _values(self) -> dict[str, Values]:
        """Return the scores so far by candidate; of two results the first one."""
        trials = self._study.get_trials(deepcopy=False)
        attributes = [trial.user_attrs for trial in reversed(trials)]
        return {each[_CANDIDATE]: tuple(each[_VALUES]) for each in attributes if _VALUES in each}

    def _claims(self, key: str) -> list[int]:
        """Return the numbers of the trials that claim a candidate."""
        trials = self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,))
        return [trial.number for trial in trials if trial.user_attrs.get(_CANDIDATE) == key]


def _open(address: str) -> RDBStorage:
    """Open the database; create its tables if they are missing."""
    from optuna.storages import RDBStorage

    for attempt in range(_TRIES):
        try:
            return RDBStorage(address)
        except Exception as error:
            if attempt == _TRIES - 1:
                raise _away(address, error) from error
            time.sleep(random.uniform(0.2, 0.6))
    raise AssertionError


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """Turn Optuna's error of a database that does not answer into one that says what to do."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        raise _away(address, error.__cause__ or error) from error


def _away(address: str, error: BaseException) -> StageFailed:
    return StageFailed(
        f"{STUDIES} {redacted(address)}: cannot be used ({explain(error)}); "
        "start the database, or unset the variable"
    )
