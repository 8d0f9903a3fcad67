"""A `prefect server start` that can be killed and started again, and questions to its API."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from projects import ProjectFolder, wait_until

_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


class PrefectServer:
    """A server with its own database, in its own process group."""

    def __init__(self, folder: Path) -> None:
        self._place = ProjectFolder.around(folder)
        self._place.root.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = ["prefect", "server", "start", "--no-ui", "--port", str(self._port)]
        with (self._place.root / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1"],
                cwd=self._place.root,
                env=self._place.environment | _SETTINGS | {"PREFECT_HOME": str(self._place.root)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                text=True,
            )
        assert wait_until(self._answers, 180), self._process.poll()

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def errors(self) -> list[str]:
        """Return the errors in the log; what SQLite refused for the moment is tried again."""
        text = (self._place.root / "server.log").read_text()
        records = re.split(r"(?m)^(?=\d\d:\d\d:\d\d\.\d{3} \|)", text)
        wrong = re.compile(r"\| (ERROR|CRITICAL)|Traceback")
        return [each for each in records if wrong.search(each) and "is locked" not in each]

    def ask(self, path: str, **content: Any) -> Any:
        """Send a query to the API."""
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def runs(self, **flow_runs: Any) -> list[dict[str, Any]]:
        """List flow runs, the newest first; of a deployment with `deployment_id`, for example."""
        found: list[dict[str, Any]] = self.ask(
            "flow_runs/filter", flow_runs=flow_runs, sort="EXPECTED_START_TIME_DESC"
        )
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a flow run."""
        (found,) = self.runs(id={"any_": [run_id]})
        return found

    def states(self, run_id: str) -> list[str]:
        """Return the names of all states that a flow run has had, in order."""
        with urllib.request.urlopen(
            f"{self.url}/flow_run_states/?flow_run_id={run_id}", timeout=30
        ) as answer:
            states = json.load(answer)
        return [each["name"] for each in sorted(states, key=lambda one: one["timestamp"])]

    def log(self, run_id: str) -> str:
        """Return the log of a flow run."""
        found = self.ask("logs/filter", logs={"flow_run_id": {"any_": [run_id]}})
        return "\n".join(each["message"] for each in found)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
