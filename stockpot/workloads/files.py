"""Where the files of a workload are."""

from __future__ import annotations

import os
from pathlib import Path


def project_path(text: str) -> Path:
    """Return a path that params.yaml names: relative ones are relative to the project's folder.

    Every process of a run has that folder in its environment; elsewhere, e.g. in a notebook, it is
    the working directory.
    """
    return Path(os.environ.get("STOCKPOT_ROOT", ".")) / Path(text).expanduser()
