"""Checks of the options that preparations share."""

from __future__ import annotations


def check_whole_number(name: str, value: int) -> None:
    """Refuse an option that counts something and is no whole number of at least 1.

    Raises:
        ValueError: with the option's name.
    """
    # YAML's `true` is an int in Python.
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
