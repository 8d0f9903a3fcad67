"""A real MLflow server that goes away: nothing is lost, duplicated or blocked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Run
from mlflow.tracking.client import MlflowClient

from stockpot.errors import InputError, StageFailed
from stockpot.tracking.recorded import read_recorded_run
from stockpot.tracking.records import Dataset, ModelRecord
from stockpot.tracking.tracker import Tracker

if TYPE_CHECKING:
    from tests.stockpot.tracking.conftest import LossyProxy, Server

pytestmark = pytest.mark.full

BASE = ModelRecord("base", "base", key="base", metrics={"val/accuracy": 0.5})
SOUP = ModelRecord(
    "greedy",
    "soup",
    key="greedy",
    digest="ab" * 32,
    path="checkpoints/soups/greedy.safetensors",
    params={"method": "linear"},
    metrics={"val/accuracy": 0.9, "val/loss": 0.2},
    curves={"greedy/best_score": (0.7, 0.9)},
    inputs=("base",),
    datasets=(Dataset("digits", "cd" * 32, "val"),),
)


@pytest.fixture
def dead_uri() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def silent_uri() -> Iterator[str]:
    """The address of a listener that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def runs(uri: str, experiment: str) -> dict[str, list[Run]]:
    """All runs of an experiment, by name."""
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    by_name: dict[str, list[Run]] = {}
    for run in client.search_runs([found.experiment_id]):
        by_name.setdefault(run.info.run_name, []).append(client.get_run(run.info.run_id))
    return by_name


def num_models(uri: str, experiment: str) -> int:
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return len(client.search_logged_models([found.experiment_id]))


def test_address_that_does_not_answer_is_an_input_error_at_once(
    dead_uri: str, tmp_path: Path
) -> None:
    started = time.monotonic()

    with pytest.raises(InputError, match="must answer, got 'connection refused'; start it"):
        Tracker.open(dead_uri, "soups", tmp_path, offline=False, tags={})

    assert time.monotonic() - started < 6


def test_database_server_that_does_not_answer_is_an_input_error_at_once(
    dead_uri: str, tmp_path: Path
) -> None:
    database = dead_uri.replace("http://", "postgresql://anna:secret@") + "/mlflow"

    with pytest.raises(InputError, match=r"postgresql://\*\*\*@.*got 'connection refused'"):
        Tracker.open(database, "soups", tmp_path, offline=False, tags={})


def test_server_that_never_answers_is_an_input_error_within_six_seconds(
    silent_uri: str, tmp_path: Path
) -> None:
    started = time.monotonic()

    with pytest.raises(InputError, match="must answer, got 'no answer in 5 s'; start it"):
        Tracker.open(silent_uri, "soups", tmp_path, offline=False, tags={})

    assert time.monotonic() - started < 6


def test_server_killed_midway_loses_and_duplicates_nothing(
    server: Server, experiment: str, tmp_path: Path
) -> None:
    tracker = Tracker.open(server.uri, experiment, tmp_path, offline=False, tags={})
    tracker.start_parent("run", {"seed": 1}, {})
    tracker.log_model(BASE)
    server.kill()
    started = time.monotonic()
    tracker.log_model(SOUP)
    tracker.log_metrics("greedy", {"test/accuracy": 0.8})
    tracker.log_text("report.html", "<h1>report</h1>")
    seconds_while_away = time.monotonic() - started
    waiting = tracker.pending

    server.start()
    tracker.finish_parent("FINISHED")

    assert seconds_while_away < 6
    assert (waiting, tracker.pending) == (3, 0)
    found = runs(server.uri, experiment)
    assert {name: [run.info.status for run in same] for name, same in found.items()} == {
        "run": ["FINISHED"],
        "base": ["FINISHED"],
        "greedy": ["FINISHED"],
    }
    assert found["greedy"][0].data.metrics["test/accuracy"] == 0.8
    assert num_models(server.uri, experiment) == 2


def test_run_that_ends_while_the_server_is_down_is_sent_by_the_next_open(
    proxy: LossyProxy, experiment: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.away = True
    offline = Tracker.open(proxy.uri, experiment, tmp_path, offline=True, tags={})
    offline.start_parent("offline run", {"seed": 1}, {})
    offline.log_model(BASE)
    offline.log_model(SOUP)
    offline.log_metrics("greedy", {"test/accuracy": 0.8})
    offline.finish_parent("FINISHED")
    ended_ms = time.time_ns() // 1_000_000
    waiting = (offline.pending, offline.store.experiment_id)

    proxy.away = False
    later = Tracker.open(proxy.uri, experiment, tmp_path, offline=False, tags={})

    assert waiting == (5, None)
    assert later.pending == 0
    found = runs(proxy.uri, experiment)
    assert {name: len(same) for name, same in found.items()} == {
        "offline run": 1,
        "base": 1,
        "greedy": 1,
    }
    (parent,), (soup,) = found["offline run"], found["greedy"]
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time <= ended_ms
    assert soup.data.tags["mlflow.parentRunId"] == parent.info.run_id
    away = [record for record in caplog.records if "does not answer" in record.getMessage()]
    assert len(away) == 1


def test_run_that_died_while_the_server_was_down_is_found_by_the_next_open(
    proxy: LossyProxy, experiment: str, tmp_path: Path
) -> None:
    proxy.away = True
    dead = Tracker.open(proxy.uri, experiment, tmp_path, offline=True, tags={})
    dead.start_parent("dies", {}, {})
    proxy.away = False

    later = Tracker.open(proxy.uri, experiment, tmp_path, offline=False, tags={})
    left = later.left_running()
    later.mark_killed(dead.pipeline)

    (run,) = runs(proxy.uri, experiment)["dies"]
    assert left == (run.info.run_id,)
    assert run.info.status == "KILLED"


@pytest.mark.parametrize("lost", range(1, 9))
def test_lost_answer_duplicates_nothing(
    server: Server, proxy: LossyProxy, experiment: str, tmp_path: Path, lost: int
) -> None:
    tracker = Tracker.open(proxy.uri, experiment, tmp_path, offline=False, tags={})
    tracker.start_parent("run", {}, {})
    tracker.log_model(BASE)
    proxy.lose = lost
    tracker.log_model(SOUP)
    tracker.log_metrics("greedy", {"test/accuracy": 0.8})
    tracker.finish_parent("FINISHED")

    assert proxy.num_writes == lost  # so the answer was lost, and counting ended
    assert tracker.pending == 0
    assert num_models(server.uri, experiment) == 2
    _assert_whole(runs(server.uri, experiment), MlflowClient(tracking_uri=server.uri))


def _assert_whole(found: dict[str, list[Run]], client: MlflowClient) -> None:
    assert sorted((name, [r.info.status for r in same]) for name, same in found.items()) == [
        ("base", ["FINISHED"]),
        ("greedy", ["FINISHED"]),
        ("run", ["FINISHED"]),
    ]
    (soup,), (base,) = found["greedy"], found["base"]
    assert soup.data.params == SOUP.params
    assert soup.data.metrics == {
        **SOUP.metrics,
        "greedy/best_score": 0.9,
        "test/accuracy": 0.8,
    }
    for name in ("val/accuracy", "val/loss", "test/accuracy"):
        assert len(client.get_metric_history(soup.info.run_id, name)) == 1
    assert soup.inputs is not None
    assert soup.outputs is not None
    assert base.outputs is not None
    assert len(soup.inputs.dataset_inputs) == 1
    assert len(soup.outputs.model_outputs) == 1
    given, made = soup.inputs.model_inputs, base.outputs.model_outputs
    assert [model.model_id for model in given] == [model.model_id for model in made]
    model = client.get_logged_model(soup.outputs.model_outputs[0].model_id)
    assert model.status.value == "READY"


def test_parameter_that_is_too_long_is_refused_by_a_server_too(
    server: Server, experiment: str, tmp_path: Path
) -> None:
    tracker = Tracker.open(server.uri, experiment, tmp_path, offline=False, tags={})

    with pytest.raises(StageFailed, match="refused start 'run': parameter 'a' must have at most"):
        tracker.start_parent("run", {"a": "x" * 6001}, {})


def test_metric_name_that_mlflow_forbids_is_refused_by_a_server(
    server: Server, experiment: str, tmp_path: Path
) -> None:
    tracker = Tracker.open(server.uri, experiment, tmp_path, offline=False, tags={})
    tracker.start_parent("run", {}, {})

    with pytest.raises(StageFailed, match=r"refused model 'base': .*Invalid value"):
        tracker.log_model(ModelRecord("base", "base", key="base", metrics={"a|b": 1.0}))

    assert tracker.pending == 0


def test_server_stores_registered_models_and_files_of_runs(
    server: Server, experiment: str, tmp_path: Path
) -> None:
    tracker = Tracker.open(server.uri, experiment, tmp_path, offline=False, tags={})
    tracker.start_parent("run", {}, {})
    tracker.log_model(replace(BASE, files={"making.json": "{}"}))
    registry = tracker.registry(experiment)

    before = registry.alias("champion")
    made = registry.register("base", "checkpoints/base/base.safetensors", "ab" * 32, {})
    registry.set_alias("champion", made.number)

    assert before is None
    assert registry.alias("champion") == made
    assert made.run_id == tracker.run_id("base")
    assert registry.versions("stockpot.digest", "ab" * 32) == [made]
    assert read_recorded_run(tracker.store, made.run_id[:8]).provenance == "{}"


def test_no_message_contains_the_credentials_of_an_address(
    dead_uri: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    secret = dead_uri.replace("http://", "http://anna:pass%40word@")

    with pytest.raises(InputError) as caught:
        Tracker.open(secret, "soups", tmp_path, offline=False, tags={})
    offline = Tracker.open(secret, "soups", tmp_path, offline=True, tags={})
    offline.start_parent("run", {}, {})

    written = [path.read_text() for path in (tmp_path / "outbox").glob("*.json")]
    told = "".join([str(caught.value), repr(caught.value.__cause__), caplog.text, *written])
    assert "anna" not in told
    assert "pass%40word" not in told
    assert "pass@word" not in told
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "pass@word"


def test_records_for_another_store_wait_for_it(
    dead_uri: str, state_dir: Path, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    away = Tracker.open(dead_uri, "soups", state_dir, offline=True, tags={})
    away.start_parent("run", {}, {})

    here = Tracker.open(uri, "soups", state_dir, offline=False, tags={})

    assert (away.pending, here.pending) == (1, 0)
    assert "1 tracking records wait for another store" in caplog.text
