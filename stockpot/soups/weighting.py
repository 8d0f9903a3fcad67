"""Which merge methods have coefficients, for selections and searches that choose them."""

from __future__ import annotations

from stockpot.errors import InputError
from stockpot.merging.signature_layers import SIGNATURES
from stockpot.soups.concat.options import CONCAT


def takes_coefficients(method: str) -> bool:
    """Whether the coefficients of models have an effect on a merge."""
    if method == "linear":  # looking up the others imports torch, which takes a second
        return True
    from stockpot.merging.registry import METHODS

    return method not in (CONCAT, SIGNATURES) and METHODS[method].takes_coefficients


def check_coefficients(selection: str, method: str) -> None:
    """Check that a merge method has the coefficients that a selection returns.

    Raises:
        InputError: it has none.
    """
    if not takes_coefficients(method):
        raise InputError(
            f"select: {selection} needs a merge method with coefficients, got {method!r}; take "
            "linear or task_arithmetic"
        )
