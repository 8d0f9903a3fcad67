"""Opening an MLflow store."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stockpot.errors import InputError

_EXPERIMENT_TAGS = {
    # Without it MLflow's UI guesses the kind, and may open the pages for chat applications.
    "mlflow.experimentKind": "custom_model_development",
}


_TALKATIVE = ("alembic", "mlflow.store.db.utils", "mlflow.store.model_registry.abstract_store")


def prepare_mlflow() -> None:
    """Keep MLflow from hanging on a dead server and from telling what nobody asked."""
    # It would repeat a POST whose answer was lost, and so make a run twice; the outbox looks first.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.tracking.client  # noqa: F401 (its import sets up its loggers; ours come after)

    for logger in _TALKATIVE:
        logging.getLogger(logger).setLevel(logging.WARNING)
    # It reports each attempt to connect; the outbox warns once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def open_client(uri: str) -> Any:
    """Return MLflow's client of a store; for a database, make its tables."""
    from mlflow.tracking.client import MlflowClient

    untyped_client: Any = MlflowClient
    return untyped_client(tracking_uri=uri)


@contextmanager
def whole_database(uri: str) -> Iterator[None]:
    """Start a SQLite file anew if the process that was making its tables was killed half-way.

    MLflow's migrations are not one transaction: a half-made file can never be opened again. It
    holds no run yet. The caller holds the lock of the database.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    marker = path.with_name(f"{path.name}.making")
    if uri.startswith("sqlite:///") and marker.exists():
        for half_made in (path, path.with_name(f"{path.name}-journal")):
            half_made.unlink(missing_ok=True)
    is_empty = not path.exists() or path.stat().st_size == 0  # the probe leaves an empty file
    if uri.startswith("sqlite:///") and path.parent.is_dir() and is_empty:
        marker.touch()
    yield
    marker.unlink(missing_ok=True)


def find_experiment(client: Any, name: str, artifacts: Path | None) -> str:
    """Return the id of an experiment, made where it is missing.

    Args:
        client: MLflow's.
        name: the experiment's.
        artifacts: the folder for its artifacts; None where the server has one.

    Raises:
        InputError: the experiment was deleted, so that nothing can be logged to it.
    """
    found = client.get_experiment_by_name(name) or _create_experiment(client, name, artifacts)
    if found.lifecycle_stage != "active":
        raise InputError(
            f"track.experiment: {name!r} was deleted in MLflow; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}` or choose another name"
        )
    return str(found.experiment_id)


def _create_experiment(client: Any, name: str, artifacts: Path | None) -> Any:
    """Create an experiment, or get the one that another machine created a moment ago."""
    from mlflow.exceptions import MlflowException

    location = None if artifacts is None else artifacts.absolute().as_uri()
    try:
        created = client.create_experiment(name, location, tags=_EXPERIMENT_TAGS)
        return client.get_experiment(created)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_experiment_by_name(name)
