"""The Prefect server of a project: the one at PREFECT_API_URL, a running one, or a new one.

All processes of a run use the same server. Otherwise each process would start its own, which takes
8 s and makes them compete for the database.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from stockpot.errors import InputError, StageFailed
from stockpot.storage.atomic_files import write_text
from stockpot.storage.locks import file_lock, try_lock
from stockpot.storage.project import Project
from stockpot.tracking.addresses import redacted

if TYPE_CHECKING:
    from filelock import FileLock

_RECORD = "prefect-server.url"
_START_SECONDS = 120
_POLL_SECONDS = 0.05
_DATABASE_SETTINGS = {
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
}
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def prefect_server(project: Project) -> Iterator[Callable[[], None]]:
    """Provide a server at PREFECT_API_URL; a server that is started here is stopped on exit.

    Yields:
        A function to call before the server is used. It waits until a new server is up; the
        caller can do something else while the server starts.

    Raises:
        InputError: the server at PREFECT_API_URL does not answer.
    """
    if named := os.environ.get("PREFECT_API_URL"):
        if not answers(f"{named.rstrip('/')}/health"):
            raise InputError(
                f"PREFECT_API_URL: no Prefect server answers at {redacted(named)!r}; start it with "
                "`prefect server start`, or unset the variable to use the project's own"
            )
        yield lambda: None
        return
    lock = server_lock(project)
    while not try_lock(lock):
        if url := _running(project.state / _RECORD):
            with _api_url(url):
                yield lambda: None
            return
        time.sleep(_POLL_SECONDS)  # it is starting or ending
    try:
        with project_server(project, with_ui=False) as wait:
            yield wait
    finally:
        lock.release()


def server_lock(project: Project) -> FileLock:
    """Return the lock of whoever starts the project's server: its database must have one alone."""
    return file_lock(project.state / "prefect-server.lock")


@contextmanager
def project_server(project: Project, *, with_ui: bool) -> Iterator[Callable[[], None]]:
    """Start the project's own server; once it is up, publish its address to other processes.

    The caller holds `server_lock`.

    Yields:
        A function to call before the server is used; it waits until the server is up, and raises
        StageFailed if the server does not start.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    # This is how Prefect itself starts the server of a script, except for the garbage collector:
    # it would scan all objects of the start-up repeatedly, free nothing, and take 1 s of 8 s.
    start = "import gc, uvicorn; gc.set_threshold(50_000); uvicorn.main()"
    command = [sys.executable, "-c", start, "--factory", "--log-level", "error"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["prefect.server.api.server:create_app"]
    settings = {
        "PREFECT_UI_ENABLED": str(with_ui),
        "PREFECT_UI_API_URL": url,
        # A new server writes Prefect's block types to its database; only the UI needs them.
        "PREFECT_API_BLOCKS_REGISTER_ON_START": str(with_ui),
    }
    if not _DATABASE_SETTINGS & os.environ.keys():
        # Not prefect.db: that is the database of `prefect server start` in the project's folder,
        # which may run at the same time.
        project.prefect_home.mkdir(exist_ok=True)
        database = project.prefect_home / "stockpot.db"
        settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{database}"
    record = project.state / _RECORD
    is_up = partial(answers, f"{url}/health")
    with start_server(project, "prefect", command, is_up, settings) as wait_until_up:

        def wait() -> None:
            wait_until_up()
            write_text(record, url)

        try:
            with _api_url(url):
                yield wait
        finally:
            record.unlink(missing_ok=True)


@contextmanager
def _api_url(url: str) -> Iterator[None]:
    os.environ["PREFECT_API_URL"] = url
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]


def _running(record: Path) -> str | None:
    """Return the address of a server that another process of the project has started."""
    if not record.is_file():
        return None
    url = record.read_text(encoding="utf-8")
    return url if answers(f"{url}/health") else None


def answers(address: str, seconds: float = 2) -> bool:
    """Return whether an HTTP server answers at `address` in time."""
    # Bypass the proxy that the environment may set: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=seconds) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def free_port() -> int:
    """Find a free TCP port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def start_server(  # noqa: PLR0913, PLR0917 (what a process needs)
    project: Project,
    name: str,
    command: Sequence[str],
    is_up: Callable[[], bool],
    settings: Mapping[str, str] = MappingProxyType({}),
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
    stop_seconds: float = 3,
) -> Iterator[Callable[[], None]]:
    """Run a server as a child process that logs to a file of the project; stop it on exit.

    Args:
        project: has the log.
        name: of the server, for the log and messages.
        command: that runs it.
        is_up: whether it answers.
        settings: environment variables.
        user: whom it runs as, if this process is root's.
        stop: the signal that ends it.
        stop_seconds: time for it to end, before it is killed.

    Yields:
        A function that waits until the server is up, and raises StageFailed if it does not start.
    """
    log_path = _log_path(project, name)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            # Ctrl-C must reach the run alone, which then reports to the server how its flows ended.
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (it only calls prctl)
            env=os.environ | settings,
            user=user,
        )
    try:
        yield partial(_wait_until_up, process, is_up, project, name)
    finally:
        process.send_signal(stop)
        try:
            process.wait(timeout=stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(
    process: subprocess.Popen[bytes], is_up: Callable[[], bool], project: Project, name: str
) -> None:
    """Wait until a server answers.

    Raises:
        StageFailed: it exited, or did not answer in time; the message has the last line of its log.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not is_up():
        if process.poll() is not None or time.monotonic() > deadline:
            log = _log_path(project, name)
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise StageFailed(
                f"the {name} server did not start: {lines[-1] if lines else 'no output'}; "
                f"see {log.relative_to(project.root)}"
            )
        time.sleep(_POLL_SECONDS)


def _log_path(project: Project, name: str) -> Path:
    return project.state / "logs" / f"{name}-server.log"


def _die_with_parent() -> None:
    """Make Linux terminate this process when its parent dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
