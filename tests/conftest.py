"""Whole projects in temporary folders, and the `stockpot` command as people run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]

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
    "evaluate": {"bootstrap": 100},
    "track": {"experiment": "test"},
    "run": {"devices": "cpu", "workers": 2, "threads": 1},
}

STAGES = ("base", "sweep", "soups", "tune", "evaluate", "report")


@dataclass
class ProjectFolder:
    """A project of its own, with a home folder that must stay empty and device slots of its own.

    Attributes:
        root: the project.
        home: the home folder of its processes.
        environment: what its processes see.
        code: `link`: the project's `stockpot` folder is the one under test;
            `copy`: it is a copy, which its processes import.
    """

    root: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    code: str = "link"

    @classmethod
    def make(cls, folder: Path, params: dict[str, Any], code: str = "link") -> ProjectFolder:
        """Make a project that nothing has run in: a Git and DVC repository."""
        project = cls.around(folder, code)
        root = project.root
        root.mkdir(parents=True)
        for name in ("dvc.yaml", "prefect.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(REPOSITORY / name, root)
        for name in ("stockpot", "tasks", "flows"):
            if code == "link":
                (root / name).symlink_to(REPOSITORY / name)
            else:
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
        (root / ".dvc").mkdir()
        shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc")
        project.write_params(params)
        project.git("init", "--quiet")
        project.git("add", "--all")
        project.git("commit", "--quiet", "--message", "start")
        return project

    @classmethod
    def around(cls, folder: Path, code: str = "link") -> ProjectFolder:
        """Describe a project at `folder`/project, with its home and temporary folder beside it."""
        home, temporary = folder / "home", folder / "tmp"
        home.mkdir(parents=True)
        temporary.mkdir()
        project = cls(folder / "project", home, code=code)
        hidden = ("PREFECT_", "MLFLOW_", "DVC_", "STOCKPOT_", "PYTEST_", "GIT_")
        project.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(hidden)
        }
        project.environment |= {
            "HOME": str(home),
            "TMPDIR": str(temporary),  # device slots are in there: other runs do not wait for ours
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "100",
            "PYTHONDONTWRITEBYTECODE": "1",
            **{f"GIT_{who}_NAME": "Tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
        }
        if code == "copy":
            project.environment["PYTHONPATH"] = str(project.root)
            # Coverage is of the code under test, not of a copy.
            for name in [n for n in project.environment if n.startswith(("COV_", "COVERAGE_"))]:
                del project.environment[name]
        return project

    def copy(self, folder: Path) -> ProjectFolder:
        """Copy the project as it is."""
        other = ProjectFolder.around(folder, self.code)
        shutil.copytree(self.root, other.root, symlinks=True)
        return other

    def write_params(self, params: dict[str, Any]) -> None:
        text = yaml.safe_dump(params, sort_keys=False)
        (self.root / "params.yaml").write_text(text, encoding="utf-8")

    def change_params(self, **sections: dict[str, Any] | list[Any]) -> None:
        """Change fields of sections, or whole sections that are lists."""
        params = yaml.safe_load((self.root / "params.yaml").read_text(encoding="utf-8"))
        for name, section in sections.items():
            params[name] = params[name] | section if isinstance(section, dict) else section
        self.write_params(params)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command as the leader of a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment | environment,
            start_new_session=True,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self, *command: str, **environment: str) -> Finished:
        """Run a command to its end."""
        process = self.start(*command, **environment)
        start = time.monotonic()
        try:
            output, _ = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Finished(process.returncode, output, time.monotonic() - start)

    def stockpot(self, *arguments: str, **environment: str) -> Finished:
        return self.finish("stockpot", *arguments, **environment)

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

    def checkpoints(self) -> dict[str, int]:
        """Return when each file of weights was written, by its path: a new one is a new time."""
        files = (self.root / "checkpoints").rglob("*.safetensors")
        return {file.relative_to(self.root).as_posix(): file.stat().st_mtime_ns for file in files}

    def manifest_times(self) -> dict[str, int]:
        """Return when each manifest was written."""
        files = (self.root / "results").glob("*.json")
        return {file.stem: file.stat().st_mtime_ns for file in files}

    def mlflow_runs(self) -> list[Any]:
        """List the runs in the project's own MLflow store, the newest first."""
        from mlflow.tracking.client import MlflowClient

        client = MlflowClient(f"sqlite:///{self.root / '.stockpot' / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("test")
        return list(client.search_runs([experiment.experiment_id], order_by=["start_time DESC"]))

    def processes(self) -> list[str]:
        """List the processes that belong to this project: their home is its own."""
        mark = f"HOME={self.home}\0".encode()
        return [_command(pid) for pid in _pids() if mark in _environment(pid) and _alive(pid)]

    def no_processes_left(self, seconds: float) -> bool:
        """Wait for all processes of this project to end."""
        return wait_until(lambda: not self.processes(), seconds)


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    output: str
    seconds: float


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
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., ProjectFolder]:
    """Return what makes a fresh project in a folder of this test."""

    def make(name: str = "a", code: str = "link", **sections: Any) -> ProjectFolder:
        return ProjectFolder.make(tmp_path / name, PARAMS | sections, code)

    return make


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """Return a project that `stockpot run` has finished in; for reading only."""
    project = ProjectFolder.make(tmp_path_factory.mktemp("finished"), PARAMS)
    finished = project.stockpot("run")
    assert finished.code == 0, finished.output
    return project


@pytest.fixture
def finished_project(finished_once: ProjectFolder, tmp_path: Path) -> ProjectFolder:
    """Return a copy of a finished project, to be changed."""
    return finished_once.copy(tmp_path / "copy")


@pytest.fixture(scope="session")
def stages() -> Sequence[str]:
    """Return the stages, in order."""
    return STAGES
