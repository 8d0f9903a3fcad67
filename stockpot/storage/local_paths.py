"""Local paths of models that a file names, relative to the file or to the working directory."""

from __future__ import annotations

from pathlib import Path

from stockpot.errors import InputError


def located(folder: Path, name: str) -> Path:
    """Return the path of a model: in a folder, or in the working directory.

    Args:
        folder: that of the file which names the model.
        name: a path, absolute or relative to one of the two.

    Returns:
        A path in `folder` if neither has the model.

    Raises:
        InputError: both have it, and not as links to one place.
    """
    here = Path(name).expanduser()
    next_to_file = folder / here
    if not here.exists():
        return next_to_file
    if next_to_file.exists() and next_to_file.resolve() != here.resolve():
        raise InputError(
            f"{name}: must be in the folder of the merge file or in the working directory, got "
            f"both {next_to_file.absolute()} and {here.absolute()}; write the absolute path of one"
        )
    return next_to_file if next_to_file.exists() else here
