"""Copies of the code under test, which tests change."""

from __future__ import annotations

import shutil
from pathlib import Path

CODE = ("stockpot", "tasks", "flows")


def copy_code(root: Path, folder: Path) -> None:
    """Copy the code of a repository into a folder.

    What Python has compiled comes along, so that processes need not compile it again; it is out of
    date for a file that is changed, by the file's size and time.
    """
    half_written = shutil.ignore_patterns("*.pyc.*")
    for name in CODE:
        shutil.copytree(root / name, folder / name, ignore=half_written)
