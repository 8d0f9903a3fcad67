"""Requests to a shared store: tried again for some seconds, then an error with a remedy."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import SystemRandom
from typing import TypeVar

from stockpot.errors import InputError, StageFailed, reason_of

T = TypeVar("T")

_TRIES = 6
_FIRST_WAIT_SECONDS = 0.2  # doubled after each try: 6 s in all
_GUIDE = "docs/how-to/shared-store.md"
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")

_random = SystemRandom()  # not the generator that a workload may have seeded


def retried(place: str, purpose: str, request: Callable[[], T], *, tries: int = _TRIES) -> T:
    """Make a request to a store; a failure that may pass is tried again with growing waits.

    Args:
        place: address of the file, without credentials.
        purpose: what the request does, such as `uploaded`.
        request: that can be repeated.
        tries: at most this many.

    Raises:
        FileNotFoundError, FileExistsError: at the first try.
        InputError: the request is not permitted, or there are no credentials.
        StageFailed: all tries failed, or those of a request inside this one.
    """
    wait = _FIRST_WAIT_SECONDS
    for attempt in range(1, tries + 1):
        try:
            return request()
        except (FileNotFoundError, FileExistsError, InputError, StageFailed):
            raise
        except Exception as error:
            # Each file system has exceptions of its own, so only those that are known to
            # be final are not tried again.
            if isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
                raise InputError(
                    f"store: {place} cannot be {purpose}: {reason_of(error)}; check the "
                    f"credentials and their permissions ({_GUIDE})"
                ) from error
            if attempt == tries:
                raise StageFailed(
                    f"store: {place} could not be {purpose} in {tries} tries, the last one: "
                    f"{reason_of(error)}; what was made is kept here: run again when the store "
                    "answers, or with --set store=null"
                ) from error
        time.sleep(wait * (0.5 + _random.random()))
        wait *= 2
    raise AssertionError("the loop returns or raises")
