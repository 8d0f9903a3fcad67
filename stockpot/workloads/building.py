"""Building workloads: built-in ones by name, custom ones as `module:Class`.

Importing this module imports no torch, so that an experiment can be planned without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from stockpot.errors import InputError, unknown_name
from stockpot.workloads.protocol import MEMBERS, TASKS, Workload
from stockpot.workloads.registry import WORKLOADS


def build_workload(
    name: str,
    *,
    seed: int,
    val_shifts: Sequence[str] = (),
    test_shifts: Sequence[str] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Workload:
    """Build the workload called `name`.

    Args:
        name: a built-in workload, or `module:Class` where `module` can be imported.
        seed: fixes the splits and the shifted copies.
        val_shifts: names of the shifts of `val`, which may be used for choices.
        test_shifts: names of the shifts of `test`, which are reported only.
        options: further keyword arguments of the workload's class.

    Raises:
        InputError: no such workload; the class does not take these arguments; or what it
            builds lacks a member of the protocol or has an unknown task.
    """
    make = WORKLOADS[name]
    arguments = {
        "seed": seed,
        "val_shifts": tuple(val_shifts),
        "test_shifts": tuple(test_shifts),
        **options,
    }
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise InputError(f"workload {name!r}: {error}, got {sorted(arguments)}") from error
    workload: Workload = make(**arguments)
    missing = [member for member in MEMBERS if not hasattr(workload, member)]
    if missing:
        raise InputError(f"workload {name!r}: must have {list(MEMBERS)}, lacks {missing}")
    if workload.task not in TASKS:
        raise unknown_name(f"task of workload {name!r}:", workload.task, TASKS)
    return workload


def shift_names(name: str) -> tuple[str, ...] | None:
    """Return the shifts of the built-in workload `name`; None if they depend on its data.

    Raises:
        InputError: no built-in workload is called `name`.
    """
    if ":" in name:
        return None
    names: tuple[str, ...] | None = WORKLOADS[name].shift_names
    return names
