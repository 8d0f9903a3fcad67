"""Checks of options that preparations share."""

from __future__ import annotations


def check_whole_number(name: str, value: int) -> None:
    """Require a whole number of at least 1.

    Raises:
        ValueError: it is none; the message has the option's name.
    """
    # YAML's `true` is an int in Python.
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
