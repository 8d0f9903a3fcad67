"""The errors of stockpot.

InputError     an error that the user can correct: a field, a file, an address; exit code 2
StageFailed    not enough of a stage's work succeeded; exit code 1
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Invalid input; the message names the place, the value that was found, and a remedy."""


class StageFailed(RuntimeError):
    """A stage cannot complete; the message names the reason and a remedy."""


def at_place(place: str, error: InputError) -> InputError:
    """Return an error that begins with a place, unless it does already or the place is empty."""
    is_named = not place or str(error).startswith((f"{place}.", f"{place}:"))
    return error if is_named else InputError(f"{place}: {error}")


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Return the error for a name that is not registered, with the nearest name suggested."""
    known = sorted(choices)
    if not known:
        return InputError(f"unknown {kind} {name!r}; there is none to choose from")
    return InputError(f"unknown {kind} {name!r}, choose from {known}{nearest_hint(name, known)}")


def nearest_hint(name: str, choices: Iterable[str]) -> str:
    """Return the suggestion of the nearest name, to append to a message; empty if none is near."""
    known = sorted(choices)
    parts = [choice for choice in known if choice in name.split("_")]  # base in base_model
    nearest = (
        difflib.get_close_matches(name, known, 1, cutoff=0.8)
        or parts
        or difflib.get_close_matches(name, known, 1)
    )
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def some_of(names: Sequence[str]) -> str:
    """Return the first three names, and how many more there are."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def reason_of(error: BaseException) -> str:
    """Return what an error says, on one line and without credentials in addresses."""
    said = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"://[^/@\s]*@", "://", said)
