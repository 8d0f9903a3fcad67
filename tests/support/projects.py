"""Projects in temporary folders, in which tests run the `stockpot` command as people run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from code_copy import CODE, copy_code

REPOSITORY = Path(__file__).parents[2]
GUARD = Path(__file__).parent / "network_guard"

# All tools together: about 10 s a run.
PARAMS: dict[str, Any] = {
    "seed": 0,
    "workload": {"name": "digits", "val_shifts": ["blur"], "test_shifts": ["noise", "rotate"]},
    "base": {"epochs": 2},
    "sweep": {
        "size": 4,
        "min_ingredients": 2,
        "space": {"learning_rate": {"log_uniform": [1e-3, 1e-2]}, "epochs": {"integer": [1, 3]}},
    },
    "soups": [{"name": "uniform", "select": "uniform"}, {"name": "greedy", "select": "greedy"}],
    "tune": [{"name": "tuned", "objectives": ["val"], "sampler": "tpe", "trials": 8}],
    "diagnose": [],
    "evaluate": {"bootstrap": 100, "random_soups": 4, "repeats": {"m": 2}},
    "promote": {"enabled": False},
    "track": {"experiment": "test"},
    "run": {"devices": "cpu", "workers": 2, "threads": 1},
}


@dataclass
class ProjectFolder:
    """A project of its own, with a home folder that must stay empty and device slots of its own.

    Its code is a link to the code under test, until it gets a copy of its own.
    """

    root: Path
    home: Path
    environment: dict[str, str]

    @classmethod
    def make(cls, folder: Path, params: dict[str, Any]) -> ProjectFolder:
        """Make a project that nothing has run in: a Git and DVC repository."""
        project = cls.around(folder)
        root = project.root
        root.mkdir(parents=True)
        for name in ("dvc.yaml", "prefect.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(REPOSITORY / name, root)
        for name in CODE:
            (root / name).symlink_to(REPOSITORY / name)
        (root / ".dvc").mkdir()
        shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc")
        shutil.copytree(REPOSITORY / ".dvc" / "plots", root / ".dvc" / "plots")
        project.write_params(params)
        project.git("init", "--quiet")
        project.git("add", "--all")
        project.git("commit", "--quiet", "--message", "start")
        return project

    @classmethod
    def around(cls, folder: Path) -> ProjectFolder:
        """Describe a project at `folder`/project, with its home and temporary folder beside it."""
        home, temporary = folder / "home", folder / "tmp"
        home.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(exist_ok=True)
        # Coverage is measured by the tests of the library, in one place: it slows whole runs down.
        hidden = ("PREFECT_", "MLFLOW_", "DVC_", "STOCKPOT_", "PYTEST_", "GIT_", "COVERAGE_")
        outside = {name: v for name, v in os.environ.items() if not name.startswith(hidden)}
        own = {
            "HOME": str(home),
            "TMPDIR": str(temporary),  # device slots are in there: other runs do not wait for ours
            "PYTHONPATH": f"{REPOSITORY}:{GUARD}",  # the code under test, installed or not
            "NETWORK_GUARD_LOG": str(folder / "network.log"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "100",
            **{f"GIT_{who}_NAME": "Tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
        }
        return cls(folder / "project", home, outside | own)

    def copy(self, folder: Path) -> ProjectFolder:
        """Copy the project as it is."""
        other = ProjectFolder.around(folder)
        shutil.copytree(self.root, other.root, symlinks=True)
        return other

    def own_code(self) -> None:
        """Replace the links to the code under test by a copy, which is imported from now on."""
        for name in CODE:
            (self.root / name).unlink()
        copy_code(REPOSITORY, self.root)
        self.environment["PYTHONPATH"] = f"{self.root}:{GUARD}"
        # Python tells a changed module by its size and second: tests change code faster than that.
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"

    def write_params(self, params: dict[str, Any]) -> None:
        text = yaml.safe_dump(params, sort_keys=False)
        (self.root / "params.yaml").write_text(text, encoding="utf-8")

    def change_params(self, **sections: dict[str, Any] | list[Any]) -> None:
        """Change fields of sections, or whole sections that are lists."""
        params = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        for name, section in sections.items():
            params[name] = params[name] | section if isinstance(section, dict) else section
        self.write_params(params)

    def start(
        self, *command: str, at: Path | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a command, in the project or at another folder, in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=at or self.root,
            env=self.environment | environment,
            start_new_session=True,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self, *command: str, at: Path | None = None, **environment: str) -> Finished:
        """Run a command to its end."""
        process = self.start(*command, at=at, **environment)
        start = time.monotonic()
        try:
            output, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Finished(process.returncode, output, time.monotonic() - start)

    def stockpot(self, *arguments: str, at: Path | None = None, **environment: str) -> Finished:
        return self.finish("stockpot", *arguments, at=at, **environment)

    def dvc(self, *arguments: str) -> Finished:
        return self.finish("dvc", *arguments)

    def git(self, *arguments: str) -> str:
        finished = self.finish("git", *arguments)
        assert finished.code == 0, finished.output
        return finished.output

    def manifest(self, stage: str) -> dict[str, Any]:
        name = "evaluation" if stage == "evaluate" else stage
        path = self.root / "results" / f"{name}.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def digests(self) -> dict[str, str]:
        """Return the digest of each model in the manifests, by name."""
        models = [self.manifest("base")["base"]]
        for stage, listed in (("sweep", "ingredients"), ("soups", "soups"), ("tune", "tuned")):
            models += self.manifest(stage)[listed]
        return {model["name"]: model["digest"] for model in models}

    def times(self) -> dict[str, int]:
        """Return when each file of weights and results was written, by its path."""
        files = [file for name in ("checkpoints", "results") for file in self._files(name)]
        return {file.relative_to(self.root).as_posix(): file.stat().st_mtime_ns for file in files}

    def _files(self, folder: str) -> list[Path]:
        return [path for path in (self.root / folder).rglob("*") if path.is_file()]

    def mlflow_runs(self) -> list[Run]:
        """List the runs in the project's own MLflow store, the newest first."""
        database = self.root / ".stockpot" / "mlflow.db"
        runs = _rows(database, "SELECT run_uuid, name, status FROM runs ORDER BY start_time DESC")
        tags = _rows(database, "SELECT run_uuid, key, value FROM tags")
        return [
            Run(name, status, {key: value for owner, key, value in tags if owner == run_id})
            for run_id, name, status in runs
        ]

    def prefect_runs(self, kind: str = "flow") -> list[Run]:
        """List the flow runs, or the task runs, in the project's own Prefect database.

        A run's tags are the number of its tries, the name of its state and the state's message.
        """
        rows = _rows(
            self.root / ".prefect" / "stockpot.db",
            "SELECT run.name, run.state_type, run.run_count, state.name, state.message "
            f"FROM {kind}_run run LEFT JOIN {kind}_run_state state ON state.id = run.state_id "
            "ORDER BY run.created DESC",
        )
        return [
            Run(name, status, {"tries": str(tries), "state": state, "message": message or ""})
            for name, status, tries, state, message in rows
        ]

    def parent_runs(self) -> list[Run]:
        """List the MLflow runs that stand for a whole pipeline run, the newest first."""
        runs = self.mlflow_runs()
        return [run for run in runs if run.tags.get("stockpot.kind") == "pipeline"]

    def asked_for(self) -> list[str]:
        """List the addresses outside this machine that the project's processes asked for."""
        log = self.home.parent / "network.log"
        return log.read_text(encoding="utf-8").split() if log.exists() else []

    def environments(self) -> list[dict[str, str]]:
        """Return the environments of all processes of this project."""
        texts = [_environment(pid).decode() for pid in self.processes()]
        return [
            dict(pair.partition("=")[::2] for pair in text.split("\0") if pair) for text in texts
        ]

    def processes(self) -> dict[int, str]:
        """Return the processes that belong to this project: their home is its own."""
        mark = f"HOME={self.home}\0".encode()
        return {pid: _command(pid) for pid in _pids() if mark in _environment(pid) and _alive(pid)}

    def no_processes_left(self, seconds: float) -> bool:
        """Wait for all processes of this project to end."""
        return wait_until(lambda: not self.processes(), seconds)


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    output: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """A run of MLflow or Prefect."""

    name: str
    status: str
    tags: dict[str, str]


def _rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.execute(query))


def wait_until(claim: Callable[[], bool], seconds: float) -> bool:
    """Wait for a claim to become true; say whether it did."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended, or is not ours
        return b""


def _alive(pid: int) -> bool:
    return _status(pid)[0] not in ("Z", "")


def parent_of(pid: int) -> int:
    """Return the process id of a process's parent; 0 if it has ended."""
    return int(_status(pid)[1])


def _status(pid: int) -> list[str]:
    """Return state and parent of a process, as the kernel writes them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["", "0"]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
