"""Addresses of tracking stores, without their secrets, and of pages in MLflow's UI."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from stockpot.errors import InputError
from stockpot.tracking.runs_view import VIEW

_DATABASES = ("mssql", "mysql", "postgresql", "sqlite")
_SERVERS = ("http", "https")
_MODEL_PAGES = "workflowType=machine_learning"  # else the UI opens the pages for chat applications


def checked_uri(uri: str) -> str:
    """Return `uri` if it names a kind of store that runs can be written to.

    Raises:
        InputError: it is neither the address of an MLflow server nor that of a database, or it
            is that of a SQLite file relative to the working directory.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme == "sqlite" and not uri.partition(":///")[2].startswith("/"):
        raise InputError(
            f"track.uri: the path of a SQLite file must be absolute, got {uri!r}; "
            "four slashes in all: sqlite:////home/me/mlflow.db"
        )
    if scheme not in (*_DATABASES, *_SERVERS):
        raise InputError(
            f"track.uri: must start with one of {sorted((*_DATABASES, *_SERVERS))}, "
            f"got {redacted(uri)!r}; e.g. http://localhost:5000 or sqlite:////home/me/mlflow.db"
        )
    return uri


def is_server(uri: str) -> bool:
    """Say whether `uri` is that of an MLflow server (and not that of a database)."""
    return urlsplit(uri).scheme in _SERVERS


def without_credentials(uri: str) -> str:
    """Move user and password of a server's address to where MLflow reads them, the environment.

    MLflow repeats the address in its errors; what is not in the address cannot be logged.
    """
    parts = urlsplit(uri)
    if not is_server(uri) or "@" not in parts.netloc:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def redacted(uri: str) -> str:
    """Return `uri` with user and password replaced by `***`."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}"))


def experiment_url(address: str, experiment_id: str) -> str:
    """Return the page of an experiment's models, as `Tracker.log_view` set it.

    Args:
        address: of the MLflow server or UI, e.g. `http://127.0.0.1:5000`.
        experiment_id: MLflow's id, `Tracker.experiment_id`.
    """
    page = f"{_page_root(address)}/experiments/{quote(experiment_id)}/runs"
    return f"{page}?viewStateShareKey={VIEW}&{_MODEL_PAGES}"


def compare_url(address: str, run_ids: Sequence[str], experiment_ids: Sequence[str]) -> str:
    """Return the page that compares runs side by side.

    Args:
        address: of the MLflow server or UI, e.g. `http://127.0.0.1:5000`.
        run_ids: MLflow's ids, in the order of the page's columns; `Tracker.run_id` gives them.
        experiment_ids: of the experiments that the runs are in.
    """
    runs, experiments = (
        quote(json.dumps(list(ids), separators=(",", ":"))) for ids in (run_ids, experiment_ids)
    )
    return (
        f"{_page_root(address)}/compare-runs?runs={runs}&experiments={experiments}&{_MODEL_PAGES}"
    )


def run_url(address: str, experiment_id: str, run_id: str) -> str:
    """Return the page of a run: its artifacts and charts are tabs of it."""
    runs = f"{_page_root(address)}/experiments/{quote(experiment_id)}/runs"
    return f"{runs}/{quote(run_id)}?{_MODEL_PAGES}"


def registered_model_url(address: str, name: str) -> str:
    """Return the page of a registered model: its versions with their aliases."""
    return f"{_page_root(address)}/models/{quote(name)}"


def _page_root(address: str) -> str:
    parts = urlsplit(address)
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return f"{plain.rstrip('/')}/#"
