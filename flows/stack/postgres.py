"""A PostgreSQL server as a child process, for Prefect, MLflow and Optuna.

It listens on a Unix socket in a folder that nobody but its user can open, and on no address of the
network, so it needs no password.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from flows.server import start_server
from stockpot.errors import StageFailed
from stockpot.storage.project import Project

DATABASES = ("prefect", "mlflow", "optuna")
_USER = "stockpot"
_DEBIAN = Path("/usr/lib/postgresql")  # Debian installs each version in a folder of its own
_STOP_SECONDS = 30  # it writes all that is in its memory
_SERVICE_USER = "postgres"  # whom Debian creates; PostgreSQL refuses to run as root


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server.

    Attributes:
        socket: folder of its Unix socket.
    """

    socket: Path

    def url(self, database: str, driver: str) -> str:
        """Return SQLAlchemy's address of a database, e.g. with the driver `asyncpg`."""
        return f"postgresql+{driver}://{_USER}@/{database}?host={quote(str(self.socket), safe='/')}"


def find_postgres() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs; None if it is not installed."""
    versions = [path for path in _DEBIAN.glob("*/bin") if (path / "postgres").exists()]
    if versions:
        return max(versions, key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    return None if found is None else Path(found).resolve().parent


def why_not(folder: Path) -> str | None:
    """Return why no server can be started with its data below this folder; None if one can."""
    if find_postgres() is None:
        return "PostgreSQL is not installed (Debian: apt install postgresql)"
    user = _other_user()
    if user is None:
        return None
    try:
        pwd.getpwnam(user)
    except KeyError:
        return f"PostgreSQL does not run as root, and there is no user {user!r}"
    reaches = subprocess.run(["test", "-x", str(folder)], user=user, check=False)
    return f"the user {user!r} cannot open {folder}" if reaches.returncode else None


@contextmanager
def postgres_server(project: Project) -> Iterator[Postgres]:
    """Run a server with its data in the state of a project; its databases are created.

    Raises:
        StageFailed: it does not start.
    """
    programs = find_postgres()
    assert programs is not None, "the caller asks why_not first"
    data = project.state / "stack" / "postgres"
    # The path of a socket has at most 107 bytes, which one in a project may exceed.
    with tempfile.TemporaryDirectory(prefix="stockpot-postgres-") as folder:
        socket = Path(folder)
        user = _other_user()
        if user is not None:
            shutil.chown(socket, user)
        _initialise(programs, data, user)
        command = [str(programs / "postgres"), "-D", str(data), "-k", folder]
        command += ["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"]
        ready = partial(_succeeds, [str(programs / "pg_isready"), "-h", folder, "-q"])
        server = start_server(
            *(project, "postgres", command, ready),
            user=user,
            stop=signal.SIGINT,  # it drops its clients instead of waiting for them
            stop_seconds=_STOP_SECONDS,
        )
        with server as wait:
            wait()
            _create_databases(programs, socket)
            yield Postgres(socket)


def _other_user() -> str | None:
    """Return the user that the server runs as, if it is another one than this process's."""
    return _SERVICE_USER if os.getuid() == 0 else None


def _initialise(programs: Path, data: Path, user: str | None) -> None:
    """Create the files of a server, if there are none."""
    if (data / "PG_VERSION").exists():
        return
    making = data.with_name(f"{data.name}.making")  # a killed initdb leaves what cannot be used
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, mode=0o700)
    if user is not None:
        shutil.chown(making, user)
    command = [str(programs / "initdb"), "-D", str(making), "-U", _USER]
    # Only this user can reach the socket, so its connections can be trusted.
    _run([*command, "--auth=trust", "-E", "UTF8", "--locale=C"], user)
    making.rename(data)


def _create_databases(programs: Path, socket: Path) -> None:
    """Create the databases that do not exist yet."""
    connection = ["-h", str(socket), "-U", _USER]
    listed = _run([str(programs / "psql"), *connection, "-At", "-l", "postgres"])
    existing = {line.partition("|")[0] for line in listed.splitlines()}
    for name in DATABASES:
        if name not in existing:
            _run([str(programs / "createdb"), *connection, name])


def _run(command: Sequence[str], user: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, user=user, check=False, cwd="/")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise StageFailed(f"{Path(command[0]).name} failed: {lines[-1]}")
    return done.stdout


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
