"""Addresses of tracking stores, without their secrets, and of pages in MLflow's UI."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from stockpot.errors import InputError

# The UI stores a view that is shared by link in a tag of the experiment, and opens it by the tag's
# last part (MLflow 3.17; a UI that does not know the view reports that and shows its default).
_VIEW = "stockpot"
VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"

_DATABASES = ("mssql", "mysql", "postgresql", "sqlite")
_SERVERS = ("http", "https")
_MODEL_PAGES = "workflowType=machine_learning"  # else the UI opens the pages for chat applications


def checked_uri(uri: str) -> str:
    """Return `uri`, the address of a supported kind of store, without user and password.

    Those of a server move to the environment, where MLflow reads them: it repeats the address in
    its errors, and what is not in the address cannot be logged.

    Raises:
        InputError: it is neither the address of an MLflow server nor that of a database, or it
            is a SQLite file relative to the working directory.
    """
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
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
    if not is_server(uri) or "@" not in parts.netloc:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username or "")
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return _with_user(uri, "")


def is_server(uri: str) -> bool:
    """Whether `uri` is the address of an MLflow server, not of a database."""
    return urlsplit(uri).scheme in _SERVERS


def is_database(uri: str) -> bool:
    """Whether `uri` is the address of a database, as SQLAlchemy writes it."""
    return urlsplit(uri).scheme.partition("+")[0] in _DATABASES


def redacted(uri: str) -> str:
    """Replace user and password in `uri` with `***`, also a password among its parameters."""
    shown = _with_user(uri, "***@")
    if shown == uri:  # SQLAlchemy accepts passwords with / ? or #, which end the host of a URL
        shown = re.sub(r"://[^/@?#]*:(?!\d+(?:[/?#]|$)).*@", "://***@", uri)
    return re.sub(r"(?i)([?&][^=&]*(?:password|token|secret)[^=&]*=)[^&#]*", r"\1***", shown)


def experiment_url(address: str, experiment_id: str) -> str:
    """Build the URL of an experiment's models, with the view set by `Tracker.log_view`.

    Args:
        address: address of the MLflow server or UI, e.g. `http://127.0.0.1:5000`.
        experiment_id: MLflow's id, `MlflowStore.experiment_id`.
    """
    page = f"{_page_root(address)}/experiments/{quote(experiment_id)}/runs"
    return f"{page}?viewStateShareKey={_VIEW}&{_MODEL_PAGES}"


def compare_url(address: str, run_ids: Sequence[str], experiment_ids: Sequence[str]) -> str:
    """Build the URL of the page that compares runs side by side.

    Args:
        address: address of the MLflow server or UI, e.g. `http://127.0.0.1:5000`.
        run_ids: MLflow's ids in column order; see `Tracker.run_id`.
        experiment_ids: the experiments that contain the runs.
    """
    runs, experiments = (
        quote(json.dumps(list(ids), separators=(",", ":"))) for ids in (run_ids, experiment_ids)
    )
    query = f"runs={runs}&experiments={experiments}&{_MODEL_PAGES}"
    return f"{_page_root(address)}/compare-runs?{query}"


def run_url(address: str, experiment_id: str, run_id: str) -> str:
    """Build the URL of a run's page, which has its artifacts and charts as tabs."""
    runs = f"{_page_root(address)}/experiments/{quote(experiment_id)}/runs"
    return f"{runs}/{quote(run_id)}?{_MODEL_PAGES}"


def registered_model_url(address: str, name: str) -> str:
    """Build the URL of a registered model's page, which lists its versions and aliases."""
    return f"{_page_root(address)}/models/{quote(name)}"


def runs_view(metric: str) -> str:
    """Build the view of all models as one flat list, sorted by test score, as JSON.

    Args:
        metric: the workload's first metric, e.g. `accuracy`.
    """
    places = ("val", "test", "shift/mean", "difference/test", "difference/shift/mean")
    columns = [
        *(f"metrics.`{place}/{metric}`" for place in places),
        *(f"params.`{name}`" for name in ("select", "method", "num_ingredients")),
        "tags.`stockpot.kind`",
    ]
    view = {
        "selectedColumns": columns,
        "searchFilter": "tags.stockpot.kind != 'pipeline'",
        "orderByKey": f"metrics.`test/{metric}`",
        "orderByAsc": False,
    }
    return json.dumps(view)


def _page_root(address: str) -> str:
    return f"{_with_user(address, '').rstrip('/')}/#"


def _with_user(uri: str, user: str) -> str:
    """Replace the part of an address that holds user and password, if it has one."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=user + parts.netloc.rpartition("@")[2]))
