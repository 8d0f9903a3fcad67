"""The project's Prefect server: the one named by PREFECT_API_URL, one that runs, or a new one.

Every process of a run talks to one server. Without it each process would start one of its own,
which takes 8 s and makes them fight over the database.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stockpot.atomic_files import write_text
from stockpot.errors import InputError, StageFailed
from stockpot.project import Project

_START_SECONDS = 120
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def prefect_server(project: Project) -> Iterator[None]:
    """Have a server at PREFECT_API_URL; one that was started here ends here.

    Raises:
        InputError: the server that PREFECT_API_URL names does not answer.
        StageFailed: a new server does not start.
    """
    if named := os.environ.get("PREFECT_API_URL"):
        if not _answers(named):
            raise InputError(
                f"PREFECT_API_URL: no Prefect server answers at {named!r}; start it with "
                "`prefect server start`, or unset the variable to use the project's own"
            )
        yield
        return
    record = project.state / "prefect-server.json"
    if url := _running(record):
        with _api_url(url):
            yield
        return
    process, url = _start(project)
    try:
        _wait_for(process, url, project)
        write_text(record, json.dumps({"url": url, "pid": process.pid}))
        with _api_url(url):
            yield
    finally:
        record.unlink(missing_ok=True)
        _end(process)


@contextmanager
def _api_url(url: str) -> Iterator[None]:
    os.environ["PREFECT_API_URL"] = url
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]


def _running(record: Path) -> str | None:
    """Return the address of the server that another process of the project has started."""
    if not record.is_file():
        return None
    url = str(json.loads(record.read_text(encoding="utf-8"))["url"])
    return url if _answers(url) else None


def _answers(url: str) -> bool:
    # A proxy of the environment is not for a server of our own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url.rstrip('/')}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def free_port() -> int:
    """Return a TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(project: Project) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server on a free port, as Prefect itself starts the one of a script."""
    port = free_port()
    logs = project.state / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "uvicorn", "--factory", "--log-level", "error"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["prefect.server.api.server:create_app"]
    with (logs / "prefect-server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            # Ctrl-C is for the run, which then tells the server how its flows ended.
            start_new_session=True,
            preexec_fn=_die_with_parent,
            env=os.environ | {"PREFECT_UI_ENABLED": "false"},
        )
    return process, f"http://127.0.0.1:{port}/api"


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent dies, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for(process: subprocess.Popen[bytes], url: str, project: Project) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            log = project.state / "logs" / "prefect-server.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise StageFailed(
                f"the Prefect server did not start: {lines[-1] if lines else 'no output'}; "
                f"see {log.relative_to(project.root)}"
            )
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
