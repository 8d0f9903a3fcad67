"""A project to start from: a small workload, and the files that make its folder a project."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text

# By their places in a project; git would obey a template called .gitignore in this package, and DVC
# take one called dvc.yaml for stages of its own.
_TEMPLATES: Mapping[str, str] = MappingProxyType(
    {
        "workload.py": "workload.py",
        "params.yaml": "params.yaml",
        "dvc.yaml": "dvc_stages.yaml",
        "prefect.yaml": "prefect.yaml",
        "README.md": "README.md",
        "tests/test_workload.py": "tests/test_workload.py",
        ".gitignore": "gitignore",
    }
)

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project; none that is there is overwritten.

    Args:
        folder: of the project, whose name becomes the project's; it is made if there is none.

    Returns:
        The files, in order.

    Raises:
        InputError: a file of a project is there, or one in place of the folder; or the folder's
            name cannot be a project's.
    """
    name = folder.absolute().resolve().name
    if not _NAME.fullmatch(name):
        raise InputError(
            f"project {name!r}: a name must be of letters, digits, '_', '-' and '.', got {name!r}"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: must be a folder, got a file; choose another name")
    there = [place for place in _TEMPLATES if (folder / place).exists()]
    if there:
        raise InputError(
            f"{folder}: must have no file of a project yet, got {there}; choose another folder"
        )
    templates = files("flows") / "project_template"
    for place, template in _TEMPLATES.items():
        text = (templates / template).read_text(encoding="utf-8")
        write_text(folder / place, text.replace("PROJECT_NAME", name))
    return [folder / place for place in _TEMPLATES]
