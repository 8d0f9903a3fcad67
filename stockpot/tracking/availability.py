"""Does the tracking store answer?"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from stockpot.tracking.addresses import is_server

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
    """The tracking store does not answer; the record stays where it is and is sent later."""


def probe(uri: str) -> None:
    """Look once whether a store is there, for at most 5 s.

    MLflow itself tries to open a database for 100 s.

    Raises:
        StoreAwayError: a server does not answer, or a proxy says that it does not.
        OSError, sqlite3.Error: a SQLite file cannot be opened.
    """
    if is_server(uri):
        _probe_server(uri)
    elif uri.startswith("sqlite"):
        _probe_file(Path(uri.partition(":///")[2].partition("?")[0]))
    else:
        _probe_database(urlsplit(uri))


def _probe_server(uri: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    request: Any = http_request  # untyped in MLflow, like the next one
    host: Any = get_default_host_creds
    limits = {"max_retries": 0, "timeout": _PROBE_SECONDS, "raise_on_status": False}
    try:
        response = request(host(uri), "/health", "GET", **limits)
    except MlflowException as error:
        raise StoreAwayError(explain(error)) from error
    if response.status_code in _GATEWAY_STATUS:
        raise StoreAwayError(f"HTTP status {response.status_code}")


def _probe_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA schema_version")


def _probe_database(parts: SplitResult) -> None:
    port = parts.port or _DATABASE_PORTS[parts.scheme.partition("+")[0]]
    try:
        with socket.create_connection((parts.hostname or "localhost", port), _PROBE_SECONDS):
            pass
    except OSError as error:
        raise StoreAwayError(explain(error)) from error


def is_away(error: BaseException) -> bool:
    """Say whether `error` means that the store did not answer, rather than that it refused."""
    from mlflow.exceptions import MlflowException, RestException
    from requests import exceptions as http

    if isinstance(error, MlflowException):
        if error.error_code in _AWAY_CODES:
            return True
        if isinstance(error, RestException) or error.error_code != "INTERNAL_ERROR":
            return False  # it answered; what the caller was handling before is another matter
    lost = (http.ConnectionError, http.Timeout, http.ChunkedEncodingError)
    # An answer of 500 is the server's own "no" to this record: it is not to be tried for ever.
    return any(
        isinstance(cause, lost)
        or (isinstance(cause, http.RetryError) and "too many 500 error" not in str(cause))
        for cause in _causes(error)
    )


def explain(error: BaseException) -> str:
    """Return why, in a few words where the reason is a common one."""
    told = " ".join(str(error).split())
    return next((words for sign, words in _REASONS.items() if sign in told), told[:300])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
