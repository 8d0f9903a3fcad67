"""Real stores: a SQLite file with MLflow's tables, and an `mlflow server` that can be killed."""

from __future__ import annotations

import http.client
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow.tracking.client import MlflowClient
from mlflow_server import Server

from stockpot.tracking.tracker import Tracker


def pytest_configure(config: pytest.Config) -> None:
    # MLflow itself triggers this warning of SQLAlchemy 2.1, on every query.
    noload = "ignore:The ``noload`` loader strategy is deprecated"
    config.addinivalue_line("filterwarnings", f"{noload}:sqlalchemy.exc.SADeprecationWarning")


class LossyProxy:
    """Counts write requests and loses the answer to the one whose number is `lose`.

    While `away` is true it closes every connection without an answer.
    """

    def __init__(self, uri: str, target: str) -> None:
        self.uri = uri
        self.target = target
        self.num_writes = 0
        self.lose: int | None = None
        self.away = False

    def loses(self, method: str) -> bool:
        """Whether the answer to this request is lost; true once."""
        if method == "GET" or self.lose is None:
            return False
        self.num_writes += 1
        if self.num_writes != self.lose:
            return False
        self.lose = None
        return True


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables and no runs, to copy: creating one takes a second."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> str:
    """One SQLite store for many tests: opening another one takes half a second."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copy(empty_database, path)
    return f"sqlite:///{path}"


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def experiment() -> str:
    """A unique name per test, since many tests share a store."""
    return f"soups-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def open_tracker(uri: str, experiment: str, state_dir: Path) -> Callable[..., Tracker]:
    """Open the SQLite store as a pipeline run does."""

    def open_it(tags: Mapping[str, str] | None = None) -> Tracker:
        return Tracker.open(uri, experiment, state_dir, offline=False, tags=tags or {})

    return open_it


@pytest.fixture
def tracker(open_tracker: Callable[..., Tracker]) -> Tracker:
    """A tracker whose pipeline run has started."""
    opened = open_tracker({"stockpot.git_commit": "c0ffee"})
    opened.start_parent("first run", {"seed": 0}, {})
    return opened


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), empty_database)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[LossyProxy]:
    """A proxy of the server, on a free port."""
    proxy = LossyProxy("", server.uri)

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if proxy.away:
                self.close_connection = True
                return
            parts = urlsplit(proxy.target)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection(parts.hostname or "", parts.port)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            if proxy.loses(self.command):
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = forward  # noqa: N815 (http.server's)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    proxy.uri = f"http://127.0.0.1:{listener.server_address[1]}"
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
