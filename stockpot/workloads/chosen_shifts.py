"""The shifts that an experiment chose, with the split of each.

Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stockpot.errors import InputError, unknown_name

CORRUPTION_NAMES = ("noise", "rotate", "translate", "blur", "contrast", "occlude", "scale")
"""The shifts of images, implemented in `corruptions.py`."""


def split_of_shifts(
    workload: str,
    val_shifts: Sequence[str],
    test_shifts: Sequence[str],
    known: Iterable[str] | None = None,
) -> dict[str, str]:
    """Return the split of each chosen shift: `val` or `test`.

    Args:
        workload: its name, for messages.
        val_shifts: the shifts of val.
        test_shifts: the shifts of test.
        known: the available shifts; None to accept any name.

    Raises:
        InputError: a shift is unknown or named twice.
    """
    names = [*val_shifts, *test_shifts]
    for name in names:
        if known is not None and name not in known:
            raise unknown_name(f"shift of the {workload} workload", name, known)
        if names.count(name) > 1:
            raise InputError(
                f"{workload}: each shift of val or test must be named once, got {names}"
            )
    return {**dict.fromkeys(val_shifts, "val"), **dict.fromkeys(test_shifts, "test")}
