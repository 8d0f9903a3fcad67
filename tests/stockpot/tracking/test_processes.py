"""Several processes on one database, and one that is killed while it writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking.client import MlflowClient

from stockpot.tracking.records import ModelRecord
from stockpot.tracking.tracker import Tracker

PROGRAM = """
import sys
from pathlib import Path
from stockpot.tracking.records import ModelRecord
from stockpot.tracking.tracker import Tracker

def main(folder, prefix, count):
    uri = f"sqlite:///{folder}/mlflow.db"
    tracker = Tracker.open(uri, "soups", Path(folder), offline=False, tags={})
    tracker.start_parent(prefix, {}, {})
    for number in range(int(count)):
        tracker.log_model(ModelRecord(f"{prefix}-{number}", "soup", key=f"{prefix}-{number}"))
        print(number, flush=True)
    tracker.finish_parent("FINISHED")

main(*sys.argv[1:])
"""


def start(folder: Path, prefix: str, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, str(folder), prefix, str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def statuses(folder: Path, prefix: str) -> list[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("soups")
    assert experiment is not None
    where = f"tags.`stockpot.key` LIKE '{prefix}-%'"
    found = client.search_runs([experiment.experiment_id], filter_string=where)
    return sorted(f"{run.info.run_name} {run.info.status}" for run in found)


@pytest.mark.full
def test_processes_that_create_the_same_database_at_once_can_all_log(tmp_path: Path) -> None:
    processes = [start(tmp_path, prefix, 2) for prefix in ("a", "b")]

    outputs = [process.communicate()[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs == ["0\n1\n"] * 2  # and nothing else is printed
    for prefix in ("a", "b"):
        assert statuses(tmp_path, prefix) == [f"{prefix}-0 FINISHED", f"{prefix}-1 FINISHED"]


def test_record_half_written_by_a_killed_process_is_written_once(
    state_dir: Path, empty_database: Path
) -> None:
    state_dir.mkdir()
    shutil.copy(empty_database, state_dir / "mlflow.db")
    process = start(state_dir, "a", 200)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    process.kill()
    process.communicate()

    uri = f"sqlite:///{state_dir / 'mlflow.db'}"
    later = Tracker.open(uri, "soups", state_dir, offline=False, tags={})
    later.start_parent("later", {}, {})
    for number in range(8):
        later.log_model(ModelRecord(f"a-{number}", "soup", key=f"a-{number}"))

    assert later.pending == 0
    assert statuses(state_dir, "a")[:8] == [f"a-{number} FINISHED" for number in range(8)]
    assert len(later.left_running()) == 1
