"""Local paths of models that a file names, relative to the file or to the working directory."""

from __future__ import annotations

import os
from pathlib import Path

from stockpot.errors import InputError

_MOST_SHOWN = 100  # characters of a name


def located(folder: Path, name: str) -> Path:
    """Return the path of a model: in a folder, or in the working directory.

    Args:
        folder: that of the file which names the model.
        name: a path, absolute or relative to one of the two.

    Returns:
        A path in `folder` if neither has the model.

    Raises:
        InputError: both have it, and not as links to one place; or no path can have this name.
    """
    try:
        os.fsencode(name)
        here = Path(name).expanduser()
        next_to_file = folder / here
        is_here, is_next_to_file = here.exists(), next_to_file.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, of no user, not Unicode
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{_shown(name)}: cannot be a path ({reason})") from error
    if "\0" in name:
        raise InputError(f"{_shown(name)}: cannot be a path (it has a null character)")
    if not is_here:
        return next_to_file
    if is_next_to_file and next_to_file.resolve() != here.resolve():
        raise InputError(
            f"{name}: must be in the folder of the merge file or in the working directory, got "
            f"both {next_to_file.absolute()} and {here.absolute()}; write the absolute path of one"
        )
    return next_to_file if is_next_to_file else here


def _shown(name: str) -> str:
    return repr(name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}...")
