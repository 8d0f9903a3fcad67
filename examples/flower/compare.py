"""Compare Flower's simulation with `sweep.rounds` on one machine, over seeds.

    python compare.py fedavg 0 5        seeds 0 to 4; about a minute each on an idle core

Runs in the environment of README.md, in temporary folders, with a SuperLink of its own. Prints per
seed the largest difference between the weights of the two global models and the accuracy on val of
the base and of the global model; then the mean gain over the base with a 95 % interval (t).
"""

from __future__ import annotations

import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import scipy.stats
import torch
from stockpot_flower.federation import Federation

from stockpot.config import load_experiment
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.scoring.val_scores import val_score
from stockpot.storage.checkpoints import load_tensors
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
State = dict[str, torch.Tensor]


def main() -> None:
    """Compare all seeds of the range on the command line."""
    torch.set_num_threads(1)
    entry, first, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    gains = []
    with tempfile.TemporaryDirectory() as folder, _superlink(Path(folder)) as environment:
        for seed in range(first, end):
            project = Path(folder) / f"seed-{seed}"
            app = _app(project, seed)
            base, local = _on_one_machine(project, app / "federation.yaml", entry)
            flower = _in_flower(project, app, entry, environment)
            difference = max(float((local[n] - flower[n]).abs().max()) for n in local)
            federation = Federation.read(app / "federation.yaml", entry)
            scores = [100 * val_score(federation.workload, w, "cpu") for w in (base, flower)]
            gains.append(scores[1] - scores[0])
            print(
                f"seed {seed}: largest difference of a weight {difference:g}; "
                f"base {scores[0]:.1f}, {entry} {scores[1]:.1f} % on val",
                flush=True,
            )
    if len(gains) > 1:
        half = scipy.stats.t.ppf(0.975, len(gains) - 1) * statistics.stdev(gains)
        mean, half = statistics.mean(gains), half / math.sqrt(len(gains))
        print(f"{entry} minus base: {mean:+.1f} points [{mean - half:.1f}, {mean + half:.1f}]")


def _app(project: Path, seed: int) -> Path:
    """Copy the app, with another seed, and an empty merge experiment."""
    app = project / "app"
    shutil.copytree(HERE / "stockpot_flower", app / "stockpot_flower")
    shutil.copy(HERE / "pyproject.toml", app)
    shutil.copy(HERE / "params.yaml", project)
    text = (HERE / "federation.yaml").read_text("utf-8")
    (app / "federation.yaml").write_text(text.replace("seed: 0", f"seed: {seed}"), "utf-8")
    return app


def _on_one_machine(project: Path, file: Path, entry: str) -> tuple[State, State]:
    """Return the base and the model of `sweep.rounds`."""
    plan = Plan(Project(project, file), load_experiment(file))
    base = _made(plan.base_job())
    write_manifest(project, "base", {"inputs": "", "base": base.to_json(), "files": {}})
    job = next(job for job in plan.rounds_jobs() if job.name == f"rounds-{entry}")
    return load_tensors(project / base.path), load_tensors(project / _made(job).path)


def _made(job: object) -> Model:
    model = make_model(job, "cpu")
    assert isinstance(model, Model), model
    return model


def _in_flower(project: Path, app: Path, entry: str, environment: dict[str, str]) -> State:
    clients = Federation.read(app / "federation.yaml", entry).recipe.clients
    finished = subprocess.run(
        [
            *(BIN / "flwr", "run", app, "--stream", "--run-config"),
            f"entry='{entry}' project='{project}'",
            *("--federation-config", f"num-supernodes={clients} client-resources-num-cpus=1"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    file = project / "federated" / f"{entry}.safetensors"
    if not file.is_file():
        raise SystemExit(finished.stdout + finished.stderr)
    return load_tensors(file)


@contextmanager
def _superlink(folder: Path) -> Iterator[dict[str, str]]:
    """Run a SuperLink that simulates nodes; yield the environment of its clients."""
    port = _free_port()
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "own"\n[superlink.own]\naddress = "127.0.0.1:{port}"\n'
        "insecure = true\n"
    )
    environment = {**os.environ, "FLWR_HOME": str(folder / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", "FLWR_TELEMETRY_ENABLED": "0"}
    command = [
        *(BIN / "flower-superlink", "--insecure", "--simulation", "--host", "127.0.0.1"),
        *("--port", str(port)),
        "--disable-runtime-dependency-installation",
    ]
    with (folder / "superlink.log").open("w") as log:
        # In the simulation, modules of the SuperLink's folder would hide those of the app.
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            _wait_for(port, process)
            yield environment
        finally:
            process.terminate()
            process.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit(f"flower-superlink is not reachable; exit code {process.poll()}")


if __name__ == "__main__":
    main()
