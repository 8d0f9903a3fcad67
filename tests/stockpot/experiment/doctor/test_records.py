"""The MLflow store: away, damaged, of another version, or with records that wait."""

from __future__ import annotations

import http.server
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import formatdate

import pytest

from stockpot.experiment.doctor.clock import check_clock
from stockpot.experiment.doctor.environment import installed_version
from stockpot.experiment.doctor.records import check_mlflow, check_records, check_studies
from stockpot.experiment.plan import Plan

MakePlan = Callable[..., Plan]


class FakeServer(http.server.BaseHTTPRequestHandler):
    """Answers as an MLflow server does that is of another version, and whose clock is slow."""

    status = 200
    version = "2.20.0"

    def do_GET(self) -> None:
        is_health = self.path == "/health"
        self.send_response_only(200 if is_health else self.status)
        self.send_header("Date", formatdate(0, usegmt=True))
        self.end_headers()
        self.wfile.write(b"OK" if is_health else self.version.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeServer)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    yield f"127.0.0.1:{listener.server_address[1]}"
    listener.shutdown()
    listener.server_close()
    thread.join()


def test_a_server_of_another_version_with_another_time_is_told(
    make_new_plan: MakePlan, address: str
) -> None:
    outcomes = [*check_mlflow(make_new_plan(f"track.uri=http://{address}"))]

    assert [(each.level, each.name) for each in outcomes] == [
        ("note", "MLflow"),
        ("problem", "clock"),
    ]
    assert outcomes[0].found == f"http://{address} answers, version 2.20.0"
    assert f"this client is {installed_version('mlflow')}" in outcomes[0].advice


def test_refused_credentials_are_a_problem_and_are_not_shown(
    make_new_plan: MakePlan, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeServer, "status", 401)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")  # the check sets both: they are restored
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")

    outcome = next(iter(check_mlflow(make_new_plan(f"track.uri=http://anna:s3cret@{address}"))))

    assert outcome.level == "problem"
    assert "refuses the credentials (401)" in outcome.found
    assert "s3cret" not in str(outcome)


@pytest.mark.parametrize(("offline", "level"), [("false", "problem"), ("true", "note")])
def test_a_store_that_is_away_is_in_the_way_unless_runs_may_start_offline(
    make_new_plan: MakePlan, offline: str, level: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"postgresql://anna:s3cret@127.0.0.1:{port}/mlflow"

    (outcome,) = check_mlflow(make_new_plan(f"track.uri={uri}", f"track.offline={offline}"))

    assert outcome.level == level
    assert outcome.found == f"postgresql://***@127.0.0.1:{port}/mlflow: connection refused"


def test_a_damaged_database_is_a_problem_and_a_missing_one_is_not(new_plan: Plan) -> None:
    path = new_plan.project.state / "mlflow.db"
    (missing,) = check_mlflow(new_plan)
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE runs (id TEXT)")
        database.commit()
    (whole,) = check_mlflow(new_plan)
    damaged = path.read_bytes()
    path.write_bytes(damaged[:100] + bytes(len(damaged) - 100))

    (outcome,) = check_mlflow(new_plan)

    assert (missing.level, whole.level, outcome.level) == ("ok", "ok", "problem")
    assert missing.found.endswith("the first run creates it")
    assert "restore it from a backup" in outcome.advice


def test_records_that_wait_or_were_refused_are_counted(new_plan: Plan) -> None:
    outbox = new_plan.project.state / "outbox"
    (outbox / "refused").mkdir(parents=True)
    (outbox / "000001-aaaaaaaa-1.json").touch()
    (outbox / "refused" / "000002-aaaaaaaa-2.json").touch()

    outcomes = [*check_records(new_plan)]

    assert [each.found for each in outcomes] == [
        "1 wait for another store or experiment",
        "1 were refused by the store",
    ]
    assert {each.level for each in outcomes} == {"note"}


def test_a_database_of_studies_that_is_away_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOCKPOT_STUDIES", raising=False)
    without = [*check_studies()]
    monkeypatch.setenv("STOCKPOT_STUDIES", "postgresql://anna:s3cret@127.0.0.1:9/optuna")

    (outcome,) = check_studies()

    assert without == []
    assert outcome.level == "problem"
    assert outcome.found == "postgresql://***@127.0.0.1:9/optuna: connection refused"


@pytest.mark.parametrize(
    ("seconds", "level", "found"),
    [
        (0, "ok", "agrees with Prefect's"),
        (-7, "note", "7 s behind Prefect's"),
        (3600, "problem", "3600 s ahead of Prefect's"),
    ],
)
def test_clocks_are_compared(seconds: float, level: str, found: str) -> None:
    (outcome,) = check_clock("Prefect", formatdate(10_000, usegmt=True), now=10_000 + seconds)

    assert (outcome.level, outcome.found) == (level, found)
