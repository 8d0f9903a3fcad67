"""Record the outputs of a stage: in its manifest, and in DVC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefect.logging import get_run_logger

from stockpot.experiment.opening import record_in_dvc
from stockpot.experiment.state import inputs_key
from stockpot.storage.manifests import digests_of, write_manifest
from stockpot.storage.store import Store
from tasks.session import current_session
from tasks.task_kinds import local_task


@local_task("write-manifest", "write-{stage}-manifest")
def record_stage(stage: str, made: Mapping[str, Any], files: Iterable[Path] = ()) -> None:
    """Write a stage's manifest with the key of its inputs and the digests of its files."""
    session = current_session()
    Store(session.root).make_folders()
    manifest = {"inputs": inputs_key(session.plan, stage), **made}
    write_manifest(session.root, stage, manifest | {"files": digests_of(session.root, files)})


@local_task("adopt", "adopt-{stage}")
def adopt(stage: str) -> None:
    """Record a stage's outputs in dvc.lock, if params.yaml alone describes the run."""
    session = current_session()
    if objection := record_in_dvc(session.plan, session.overrides, [stage]):
        get_run_logger().warning(objection)
        session.console.print(objection, style="yellow", markup=False)
