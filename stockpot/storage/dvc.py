"""Adopting what a run made into DVC, so that `dvc status` and `dvc repro` know of it.

Outputs are committed a stage at a time with DVC's own library, never from inside a DVC stage.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path


def inside_dvc_stage() -> bool:
    """Say whether this process runs as a stage of `dvc repro`, which records outputs itself."""
    return "DVC_STAGE" in os.environ


def pipeline_around() -> str | None:
    """Name the `dvc repro` that this process is a stage of; None outside DVC.

    Its stages are processes of one process group; the group's start tells it from an earlier
    one of the same number. So all stages of one pipeline run share one MLflow parent run, and
    experiments that a queue runs in one group have one each.
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

    Inside a DVC stage, which records them itself, and outside a DVC project nothing is done.

    Args:
        root: the project root, with dvc.yaml.
        stages: names of stages whose outputs are whole.

    Returns:
        What DVC objected to; empty if nothing.
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
            # With the file's place, as DVC would look for it in the working directory.
            file = root / "dvc.yaml"
            known = {stage.name for stage in repo.stage.load_file(str(file))}
            for stage in ("code", *stages):
                if stage in known:
                    repo.commit(f"{file}:{stage}", force=True)
    except DvcException as error:
        return f"DVC did not record what {', '.join(stages)} made: {error}"
    return ""
