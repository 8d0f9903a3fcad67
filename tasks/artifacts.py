"""Artifacts in Prefect's UI: the table of results, and where the report is."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from stockpot.tracking.addresses import is_server, run_url
from tasks.flow_runs import project_tag
from tasks.session import Session


def artifact_key(name: str, root: Path, experiment: str) -> str:
    """Return the key of an artifact, which a server keeps apart from those of other experiments.

    A server shows the artifacts of a key as versions of one another. Projects in folders of the
    same name differ in the last digits.

    Args:
        name: what the artifact shows.
        root: the project folder.
        experiment: MLflow's experiment.
    """
    digits = hashlib.sha256(project_tag(root).encode()).hexdigest()[:6]
    words = re.sub(r"[^a-z0-9]+", "-", f"{name} {root.name} {experiment}".lower()).strip("-")
    return f"{words}-{digits}"


def publish_results(
    session: Session, columns: Mapping[str, Sequence[Any]], description: str
) -> None:
    """Show the table of results."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    create_table_artifact(rows, key=_key(session, "results"), description=description)


def publish_report(session: Session, report: Path) -> None:
    """Link to the report on the MLflow server, or, without one, say which file it is.

    A browser on another machine could not open a link to the file.
    """
    key, uri = _key(session, "report"), session.plan.tracking_uri
    run, experiment = session.tracker.parent_run_id, session.tracker.store.experiment_id
    if is_server(uri) and run and experiment:
        link = run_url(uri, experiment, run)
        create_link_artifact(link, "report.html, among the artifacts", key=key)
        return
    place = report.relative_to(session.root)
    create_markdown_artifact(
        f"`{place}` in the project folder `{session.root}` on `{socket.gethostname()}`", key=key
    )


def _key(session: Session, name: str) -> str:
    return artifact_key(name, session.root, session.plan.experiment.track.experiment)
