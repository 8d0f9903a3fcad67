"""Creation of a new project: a small workload and the files of a project."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text

# Templates by their paths in a project. In this package, git would apply a .gitignore, and DVC
# would read a dvc.yaml.
_TEMPLATES = {
    "workload.py": "workload.py",
    "params.yaml": "params.yaml",
    "dvc.yaml": "dvc_stages.yaml",
    "prefect.yaml": "prefect.yaml",
    "prefect.toml": "prefect.toml",
    "README.md": "README.md",
    "tests/test_workload.py": "tests/test_workload.py",
    ".gitignore": "gitignore",
}

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project without overwriting any.

    Args:
        folder: the project's folder, created if missing; its name becomes the project's.

    Returns:
        The paths of the files.

    Raises:
        InputError: a file of a project exists, the folder is a file, or its name is not a valid
            project name.
    """
    name = folder.absolute().resolve().name
    if not _NAME.fullmatch(name):
        raise InputError(
            f"project {name!r}: names must have letters, digits, '_', '-' and '.', got {name!r}"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: must be a folder, got a file; choose another name")
    existing = [place for place in _TEMPLATES if (folder / place).exists()]
    if existing:
        raise InputError(
            f"{folder}: must not have files of a project yet, got {existing}; choose another folder"
        )
    templates = files("flows") / "project_template"
    for place, template in _TEMPLATES.items():
        text = (templates / template).read_text(encoding="utf-8")
        write_text(folder / place, text.replace("PROJECT_NAME", name))
    return [folder / place for place in _TEMPLATES]
