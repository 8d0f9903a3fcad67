"""Checks of options that preparations share."""

from __future__ import annotations


def check_whole_numbers(**options: int) -> None:
    """Require whole numbers of at least 1, given by the names of the options.

    Raises:
        ValueError: one is none; the message has the option's name.
    """
    for name, value in options.items():
        # YAML's `true` is an int in Python.
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
