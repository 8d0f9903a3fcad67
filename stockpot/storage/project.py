"""The project folder, and settings that keep every tool's state in it and off the network.

The root is `$STOCKPOT_ROOT`, else `$DVC_ROOT` (set inside a DVC stage), else the folder of the
params file, which is searched for upwards from the working directory. A queued DVC experiment runs
in a copy of the project: the root is the copy, which shares the project's state.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stockpot.errors import InputError

PARAMS_NAME = "params.yaml"
ROOT_VARIABLE = "STOCKPOT_ROOT"
"""The environment variable with the project folder."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder and its layout.

    Attributes:
        root: the project folder, absolute.
        params_file: the file that describes the experiment, absolute.
    """

    root: Path
    params_file: Path

    @property
    def state(self) -> Path:
        """Locks, caches, the MLflow database, studies: not versioned."""
        return self.root / ".stockpot"

    @property
    def run_lock(self) -> Path:
        """The file whose lock keeps two runs of the project apart."""
        return self.state / "run.lock"

    @property
    def results(self) -> Path:
        """Manifests, metrics, plots and the report: versioned by DVC."""
        return self.root / "results"

    @property
    def prefect_home(self) -> Path:
        """Prefect's database and storage."""
        return self.root / ".prefect"

    @property
    def mlflow_uri(self) -> str:
        """The default MLflow store: one SQLite file in the project."""
        return f"sqlite:///{self.state.resolve() / 'mlflow.db'}"


def find_project(params: Path | None = None) -> Project:
    """Find the project of `params`, or the one that contains the working directory.

    Raises:
        InputError: there is no params file, or the project folder is not writable.
    """
    params_file = params.absolute() if params else _search_upwards(Path.cwd())
    if not params_file.is_file():
        raise InputError(f"{params_file.name}: no such file in {params_file.parent}")
    root = _root(params_file)
    if not os.access(root, os.W_OK):
        raise InputError(f"{root}: the project folder must be writable; change its permissions")
    return Project(root, params_file)


def _root(params_file: Path) -> Path:
    anchor = os.environ.get(ROOT_VARIABLE) or os.environ.get("DVC_ROOT")
    if anchor is None or _copied_from(params_file.parent) is not None:
        return params_file.parent
    return Path(anchor).absolute()


def _copied_from(folder: Path) -> Path | None:
    """Return the original of a project copied for a queued experiment; None for other folders."""
    parent = os.environ.get("DVC_ROOT")
    if parent is None or not folder.is_relative_to(Path(parent).absolute() / ".dvc" / "tmp"):
        return None
    return Path(parent).absolute()


def _search_upwards(start: Path) -> Path:
    """Return the nearest params file at or above `start`."""
    for folder in (start, *start.parents):
        if (folder / PARAMS_NAME).is_file():
            return folder / PARAMS_NAME
    raise InputError(
        f"{PARAMS_NAME}: none in {start} or above; change to a project folder or pass it with -p"
    )


def export_settings(project: Project) -> None:
    """Set the environment of Prefect, MLflow, DVC and matplotlib for this process and its children.

    Call it before any of them is imported, since they read it at import. Variables that the user
    has set are not changed, except those that would send telemetry.

    The copy that a queued DVC experiment runs in, which DVC deletes afterwards, is given links to
    the project's state.
    """
    if original := _copied_from(project.root):
        for place in (project.state, project.prefect_home):
            shared = original / place.name
            shared.mkdir(exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(shared)
    silence_telemetry()
    homes = {
        ROOT_VARIABLE: str(project.root),
        "PREFECT_HOME": str(project.prefect_home),
        "TORCHINDUCTOR_CACHE_DIR": str(project.state / "torch"),
        "MPLCONFIGDIR": str(project.state / "matplotlib"),
        "DVC_SITE_CACHE_DIR": str(project.root / ".dvc" / "tmp" / "site_cache"),
    }
    for name, value in (_QUIET | homes).items():
        os.environ.setdefault(name, value)


def silence_telemetry() -> None:
    """Turn off the telemetry of all tools, for this process and its children."""
    os.environ.update(_OFFLINE)


_OFFLINE = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

_QUIET = {
    "ALEMBIC_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PREFECT_CLI_PROMPT": "false",
    # Logs are for Prefect's UI; the terminal has progress bars and the table.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "INFO",
    # Smaller batches make SQLite report "database is locked" and the next flow wait for 2 s.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    # Whole seconds: Prefect rounds down, and with 0 its server keeps a CPU core busy.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
