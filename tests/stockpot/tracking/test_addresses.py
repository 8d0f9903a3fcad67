from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from stockpot.errors import InputError
from stockpot.tracking.addresses import (
    checked_uri,
    compare_url,
    experiment_url,
    redacted,
    registered_model_url,
    run_url,
)
from stockpot.tracking.connection import StoreAwayError, probe

SECRET = "https://anna:pass%40word@mlflow.example.org:8443/team"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "ftp://host", "databricks"])
def test_address_of_another_kind_is_an_input_error(uri: str) -> None:
    with pytest.raises(InputError, match=r"track\.uri: must start with one of"):
        checked_uri(uri)


def test_relative_sqlite_file_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"must be absolute, got 'sqlite:///mlflow\.db'"):
        checked_uri("sqlite:///mlflow.db")


@pytest.mark.parametrize(
    "uri", ["sqlite:////a/mlflow.db", "http://localhost:5000", "postgresql+psycopg://host/db"]
)
def test_servers_and_databases_are_accepted(uri: str) -> None:
    assert checked_uri(uri) == uri


def test_credentials_of_a_server_go_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "old")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "old")

    plain = checked_uri(SECRET)

    assert plain == "https://mlflow.example.org:8443/team"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "anna"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "pass@word"


def test_redacted_address_has_no_user_and_no_password() -> None:
    assert redacted(SECRET) == "https://***@mlflow.example.org:8443/team"
    assert redacted("postgresql://u:p@host/db") == "postgresql://***@host/db"
    assert redacted("postgresql://u:p/#?@@host/db") == "postgresql://***@host/db"
    for plain in ("sqlite:////a/mlflow.db", "http://host:5000/a@b", "http://host/a:b@c"):
        assert redacted(plain) == plain
    assert redacted("postgresql:///db?host=/run&password=p%40&sslmode=require") == (
        "postgresql:///db?host=/run&password=***&sslmode=require"
    )


def test_experiment_page_is_the_view_for_models() -> None:
    assert experiment_url("http://localhost:5000/", "7") == (
        "http://localhost:5000/#/experiments/7/runs"
        "?viewStateShareKey=stockpot&workflowType=machine_learning"
    )


def test_compare_page_has_runs_and_experiments_as_json_and_no_credentials() -> None:
    url = compare_url(SECRET, ["a1", "b2"], ["7"])

    page, _, query = url.partition("?")
    assert page == "https://mlflow.example.org:8443/team/#/compare-runs"
    values = parse_qs(query)
    assert json.loads(values["runs"][0]) == ["a1", "b2"]
    assert json.loads(values["experiments"][0]) == ["7"]


def test_pages_of_a_run_and_of_a_registered_model() -> None:
    assert run_url("http://localhost:5000", "7", "a1") == (
        "http://localhost:5000/#/experiments/7/runs/a1?workflowType=machine_learning"
    )
    assert registered_model_url("http://localhost:5000/", "my soups") == (
        "http://localhost:5000/#/models/my%20soups"
    )


def test_a_database_is_probed_whatever_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe(f"postgresql://me:p/#?:@127.0.0.1:{listener.getsockname()[1]}/mlflow")


def test_a_database_on_a_unix_socket_is_probed_there(tmp_path: Path) -> None:
    uri = f"postgresql+psycopg2://me@/mlflow?host={tmp_path}"
    with pytest.raises(StoreAwayError):
        probe(uri)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()

        probe(uri)
