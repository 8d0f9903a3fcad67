"""Connecting to an MLflow store, and telling a lost connection from a refusal."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from stockpot.errors import InputError
from stockpot.storage.locks import file_lock
from stockpot.tracking.addresses import checked_uri, is_server, redacted

_PROBE_SECONDS = 5
_AWAY_CODES = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
_GATEWAY_STATUS = {408, 429, 502, 503, 504}  # a proxy answers in place of the server
_DATABASE_PORTS = {"mssql": 1433, "mysql": 3306, "postgresql": 5432}
_REASONS = {
    "timed out": f"no answer in {_PROBE_SECONDS} s",
    "Connection refused": "connection refused",
    "Connection aborted": "the connection broke",
    "Failed to resolve": "no host of this name",
    "No route to host": "no route to host",
    "CERTIFICATE_VERIFY_FAILED": "its TLS certificate is not accepted",
}


class StoreAwayError(ConnectionError):
    """The tracking store does not answer; the record stays in the outbox and is sent later."""


def probe(uri: str) -> None:
    """Check once whether a store answers, for at most 5 s.

    MLflow itself tries to open a database for 100 s.

    Raises:
        StoreAwayError: a server does not answer, or a proxy reports that it does not.
        OSError, sqlite3.Error: a SQLite file cannot be opened.
    """
    parts = urlsplit(uri)
    if parts.scheme.startswith("sqlite"):
        path = Path(uri.partition(":///")[2].partition("?")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA schema_version")
        return
    from mlflow.exceptions import MlflowException

    try:
        if is_server(uri):
            _probe_server(uri)
        else:
            _probe_database(uri)
    except (OSError, MlflowException) as error:
        raise StoreAwayError(explain(error)) from error


def _probe_database(uri: str) -> None:
    """Connect to a database server, on the network or on a Unix socket (`?host=/folder`)."""
    from sqlalchemy import make_url  # unlike urlsplit, it knows passwords with / ? or #

    url = make_url(uri)
    port = url.port or _DATABASE_PORTS[url.get_backend_name()]
    folder = str(url.query.get("host", ""))
    if not folder.startswith("/"):
        address = (url.host or folder or "localhost", port)
        socket.create_connection(address, _PROBE_SECONDS).close()
        return
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PROBE_SECONDS)
        connection.connect(f"{folder}/.s.PGSQL.{port}")


def check_answers(uri: str) -> None:
    """Check that a store answers, without opening it.

    Raises:
        InputError: it does not answer, or `uri` is not the address of a store.
    """
    uri = checked_uri(uri)
    with must_answer(uri):
        probe(uri)


@contextmanager
def must_answer(uri: str) -> Iterator[None]:
    """Turn StoreAwayError into InputError."""
    try:
        yield
    except StoreAwayError as away:
        raise InputError(
            f"track.uri {redacted(uri)}: the server must answer, got {str(away)!r}; "
            "start it, correct the address, or set track.offline: true to send later"
        ) from away


class Answer(NamedTuple):
    """The answer of a server: HTTP status, text, and the header `Date` if it has one."""

    status: int
    text: str
    date: str | None


def ask_server(uri: str, path: str) -> Answer:
    """Get a page of an MLflow server with the credentials of the environment; one attempt.

    Raises:
        OSError, MlflowException: it does not answer.
    """
    from mlflow.utils import credentials, rest_utils

    request: Any = rest_utils.http_request  # untyped in MLflow, like the next one
    host: Any = credentials.get_default_host_creds
    limits = {"max_retries": 0, "timeout": _PROBE_SECONDS, "raise_on_status": False}
    answer = request(host(uri), path, "GET", **limits)
    return Answer(answer.status_code, answer.text, answer.headers.get("Date"))


def _probe_server(uri: str) -> None:
    status = ask_server(uri, "/health").status
    if status in _GATEWAY_STATUS:
        raise ConnectionError(f"HTTP status {status}")


def is_away(error: BaseException) -> bool:
    """Whether `error` means that the store did not answer, as opposed to a refusal."""
    from mlflow.exceptions import MlflowException, RestException
    from requests import exceptions as http

    if isinstance(error, MlflowException):
        if error.error_code in _AWAY_CODES:
            return True
        if isinstance(error, RestException) or error.error_code != "INTERNAL_ERROR":
            return False  # it answered; an exception that the caller was handling does not count
    lost = (StoreAwayError, http.ConnectionError, http.Timeout, http.ChunkedEncodingError)
    cause: BaseException | None = error
    while cause is not None:
        # An answer of 500 is the server's own refusal of this record: do not retry it for ever.
        is_retry = isinstance(cause, http.RetryError) and "too many 500 error" not in str(cause)
        if is_retry or isinstance(cause, lost):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def explain(error: BaseException) -> str:
    """Summarize an error in a few words if its reason is a common one."""
    text = " ".join(str(error).split())
    return next((words for sign, words in _REASONS.items() if sign in text), text[:300])


@contextmanager
def ignoring(*codes: str) -> Iterator[None]:
    """Suppress MLflow's errors with one of these error codes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


def connect(uri: str, experiment: str, state_dir: Path) -> tuple[Any, str]:
    """Open a store; create the database's tables and the experiment if they are missing.

    Args:
        uri: address of the store.
        experiment: name of the experiment.
        state_dir: folder for the lock and, if the store is a database, for the artifacts.

    Returns:
        MLflow's client and its id of the experiment.

    Raises:
        InputError: the experiment was deleted, so that nothing can be logged to it.
        StoreAwayError: the store does not answer.
    """
    _configure_mlflow()
    probe(uri)
    from mlflow.tracking.client import MlflowClient

    untyped_client: Any = MlflowClient
    artifacts = None if is_server(uri) else (state_dir / "mlartifacts").absolute().as_uri()
    # Two processes that create the same database at once break each other's migrations.
    with file_lock(state_dir / "mlflow.lock"), _whole_database(uri):
        client = untyped_client(tracking_uri=uri)
        return client, _experiment_id(client, experiment, artifacts)


def _configure_mlflow() -> None:
    """Keep MLflow from retrying, from hanging on a dead server and from printing."""
    # It would repeat a POST whose answer was lost and create a run twice; the outbox checks first.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.tracking.client  # noqa: F401 (configures its loggers on import; ours come after)

    for logger in ("alembic", "mlflow.store"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    # It reports each attempt to connect; the outbox warns once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


@contextmanager
def _whole_database(uri: str) -> Iterator[None]:
    """Recreate a SQLite file if the process that was creating its tables was killed half-way.

    MLflow's migrations are not one transaction: a half-made file can never be opened again. It
    contains no run yet. The caller holds the lock of the database.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    marker = path.with_name(f"{path.name}.making")
    if uri.startswith("sqlite:///"):
        if marker.exists():
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
        if not path.exists() or path.stat().st_size == 0:  # the probe leaves an empty file
            marker.touch()
    yield
    marker.unlink(missing_ok=True)


def _experiment_id(client: Any, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        # Without this tag the UI guesses the kind, and may open the pages for chat applications.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        with ignoring("RESOURCE_ALREADY_EXISTS"):  # another machine created it a moment ago
            client.create_experiment(name, artifacts, tags=tags)
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise InputError(
            f"track.experiment: {name!r} was deleted in MLflow; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}` or choose another name"
        )
    return str(found.experiment_id)
