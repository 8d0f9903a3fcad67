"""Files of a run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any


def put_artifact(client: Any, run_id: str, name: str, content: bytes) -> None:
    """Write a file of a run; one of this name is replaced.

    Args:
        client: MLflow's.
        run_id: MLflow's id.
        name: the path among the run's artifacts, e.g. `plots/barriers.svg`.
        content: the file's.
    """
    path = PurePosixPath(name)
    folder = str(path.parent) if path.parent.name else None
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / path.name
        file.write_bytes(content)
        client.log_artifact(run_id, file, folder)


def get_artifact(client: Any, run_id: str, name: str) -> str | None:
    """Read a text file of a run; None where it has none of this name in its top folder."""
    if name not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(client.download_artifacts(run_id, name, temporary))
        return path.read_text(encoding="utf-8")


def get_artifacts(client: Any, run_id: str, folder: str) -> dict[str, str]:
    """Read all text files below a folder of a run, by their paths in it; {} where there is none."""
    if folder not in {file.path for file in client.list_artifacts(run_id)}:
        return {}
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(client.download_artifacts(run_id, folder, temporary))
        files = sorted(path for path in top.rglob("*") if path.is_file())
        return {path.relative_to(top).as_posix(): path.read_text("utf-8") for path in files}


def show_as_table(client: Any, run_id: str, name: str) -> None:
    """Do what `MlflowClient.log_table` does, except that logging again replaces the table."""
    tags = client.get_run(run_id).data.tags
    shown = json.loads(tags.get("mlflow.loggedArtifacts", "[]"))
    table = {"path": name, "type": "table"}
    if table not in shown:
        client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([*shown, table]))
