"""The options of a soup, split into those of its preparation and those of its merge method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from stockpot.errors import InputError, unknown_name
from stockpot.merging.registry import METHODS
from stockpot.soups.concat.options import CONCAT, check_concat
from stockpot.soups.preparation.protocol import JointPreparation, Preparation
from stockpot.soups.preparation.registry import PREPARATIONS
from stockpot.workloads.protocol import Workload


def split_options(
    method_name: str, options: Mapping[str, Any]
) -> tuple[Preparation | JointPreparation | None, dict[str, Any]]:
    """Build the preparation of a merge method from its part of the options.

    Args:
        method_name: a registered merge method, or `concat`.
        options: of the method and of its preparation, by name.

    Returns:
        The preparation, None for a method without one; and the options of the method.

    Raises:
        InputError: an option is unknown, or out of the preparation's range.
    """
    if method_name == CONCAT:
        check_concat(options)
        return None, dict(options)
    method = METHODS[method_name]
    if method.side_information is None:
        return None, dict(options)
    kind = PREPARATIONS[method.side_information]
    theirs = inspect.signature(kind).parameters
    known = [*theirs, *method.options]
    for name in options:
        if name not in known:
            raise InputError(f"{method_name}: {unknown_name('option', name, known)}")
    try:
        preparation = kind(**{name: value for name, value in options.items() if name in theirs})
    except ValueError as error:
        raise InputError(f"{method_name}: {error}") from error
    return preparation, {name: value for name, value in options.items() if name not in theirs}


def check_preparation(method_name: str, options: Mapping[str, Any], workload: Workload) -> None:
    """Check that the preparation of a merge method, if it has one, is for a workload.

    Raises:
        InputError: it is not.
    """
    if method_name != "linear":  # looking up the others imports torch, which takes a second
        preparation, _ = split_options(method_name, options)
        if preparation is not None and not isinstance(preparation, JointPreparation):
            preparation.check(workload)


def method_modules(method_name: str) -> tuple[str, ...]:
    """Return the modules of a merge method and of its preparation, for the key of their code."""
    if method_name == CONCAT:
        return ("stockpot.soups.concat.concatenate", "stockpot.soups.concat.options")
    module = METHODS.module_of(method_name)
    if method_name == "linear":  # looking up the others imports torch, which takes a second
        return (module,)
    side = METHODS[method_name].side_information
    return (module,) if side is None else (module, PREPARATIONS.module_of(side))
