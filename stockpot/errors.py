"""The errors that a caller tells apart.

InputError     what the user can put right: a field, a file, an address; exit code 2
StageFailed    work was tried and not enough of it succeeded; exit code 1
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used; the message says where, what was found, what to do."""


class StageFailed(RuntimeError):
    """A stage did its work and cannot go on; the message says why and what to do."""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Build the error for a name that is not registered, with the nearest one suggested."""
    known = sorted(choices)
    return InputError(f"unknown {kind} {name!r}, choose from {known}{nearest_hint(name, known)}")


def nearest_hint(name: str, choices: Iterable[str]) -> str:
    """Return the end of a message that suggests the nearest name; empty if none is near."""
    nearest = difflib.get_close_matches(name, sorted(choices), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
