"""Writing what a stage made: the manifest that later stages, DVC and the next run go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from stockpot.experiment.state import inputs_key
from stockpot.storage.manifests import digests_of, write_manifest
from stockpot.storage.store import Store
from tasks.session import current_session


@task(name="write-manifest", task_run_name="write-{stage}-manifest", cache_policy=NO_CACHE)
def record_stage(stage: str, made: Mapping[str, Any], files: Iterable[Path] = ()) -> None:
    """Write a stage's manifest with the hash of its inputs and the digests of its files."""
    session = current_session()
    Store(session.root).make_folders()
    manifest = {"inputs": inputs_key(session.plan, stage), **made}
    write_manifest(session.root, stage, manifest | {"files": digests_of(session.root, files)})
