"""Tags that every run of a tracker carries: who, where from, which code."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from pathlib import Path


def run_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's tags and those that MLflow's UI shows as source and user."""
    every = {
        **tags,
        "mlflow.source.name": "stockpot",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
    }
    if commit := tags.get("stockpot.git_commit"):
        every["mlflow.source.git.commit"] = commit
    if experiment := os.environ.get("DVC_EXP_NAME"):
        every["DVC_EXP_NAME"] = experiment
    return every


def origin(state_dir: Path) -> str:
    """Return which machine and folder a run was started from."""
    return f"{socket.gethostname()}:{state_dir}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        return str(os.getuid())
