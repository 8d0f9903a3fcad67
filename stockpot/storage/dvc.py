"""Versions: record the outputs of a run in DVC, and name the git commit of a project.

Outputs are recorded one stage at a time with DVC's library, never from inside a DVC stage.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path


def inside_dvc_stage() -> bool:
    """Return whether this process is a stage of `dvc repro`, which records outputs itself."""
    return "DVC_STAGE" in os.environ


def pipeline_around() -> str | None:
    """Return an id of the `dvc repro` that this process is a stage of; None outside DVC.

    All stages of a pipeline run in one process group, whose start time distinguishes it from an
    earlier group of the same number. All stages of a pipeline thus share one MLflow parent run,
    and each experiment that a queue runs in one group has its own.
    """
    if not inside_dvc_stage():
        return None
    group = os.getpgid(0)
    try:
        started = Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = "unknown"
    experiment = os.environ.get("DVC_EXP_NAME")
    return f"dvc-{group}-{started}" + (f"-{experiment}" if experiment else "")


def adopt_outputs(root: Path, stages: Sequence[str]) -> str:
    """Record the outputs of finished stages in dvc.lock, as if DVC had run the stages.

    Does nothing inside a DVC stage, which records them itself, and outside a DVC project.

    Args:
        root: the project root, with dvc.yaml.
        stages: names of stages whose outputs are complete.

    Returns:
        DVC's error message; empty if it recorded the outputs.
    """
    is_dvc_project = (root / ".dvc").is_dir() and (root / "dvc.yaml").is_file()
    if inside_dvc_stage() or not is_dvc_project:
        return ""
    lock = root / "dvc.lock"
    if lock.is_file() and lock.stat().st_size == 0:  # DVC was killed while it wrote the file
        lock.unlink()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        with Repo(str(root), _wait_for_lock=True) as repo:
            # With the path of the file: DVC would search for it in the working directory.
            file = root / "dvc.yaml"
            known = {stage.name for stage in repo.stage.load_file(str(file))}
            for stage in ("code", *stages):
                if stage in known:
                    repo.commit(f"{file}:{stage}", force=True)
    except DvcException as error:
        return f"DVC did not record the outputs of {', '.join(stages)}: {error}"
    return ""


def describe_commit(root: Path) -> str:
    """Return the commit of a project, with `-dirty` if files differ from it; empty without git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return found.stdout.strip()
