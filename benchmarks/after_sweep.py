"""How long each stage after the sweep takes, with the code of one checkout or of several.

The models of a project whose sweep has run are imported into a new project for each checkout, with
the project's data and params.yaml. So nothing is trained, and no result is found from before:

    python benchmarks/after_sweep.py PROJECT --checkout before=../old --checkout after=../new

Do not edit a checkout meanwhile: its results would be out of date.
The check before merging belongs to the stage sweep; here it runs alone, without cached passes. CPU
seconds are those of all processes of a stage; times of the wall clock need a quiet machine. The
last lines say whether all checkouts chose the same models with the same weights.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

STAGES = ("soups", "tune", "diagnose", "evaluate", "report")
CHECK = """
from pathlib import Path
from stockpot.config import load_experiment
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.storage.manifests import read_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
from stockpot.workers import WorkerPool, choose_devices

if __name__ == "__main__":
    root = Path.cwd()
    experiment = load_experiment(root / "params.yaml", ())
    job = Plan(Project(root, root / "params.yaml"), experiment).precheck_job(
        [Model.from_json(entry) for entry in read_manifest(root, "sweep")["ingredients"]]
    )
    run = experiment.run
    pool = WorkerPool(choose_devices(run.devices, run.workers), run.threads)
    pool.run(check_ingredients, job)
    pool.close()
"""
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run the stages with each checkout and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", type=Path, help="a project whose sweep has run")
    parser.add_argument("--checkout", action="append", required=True, metavar="NAME=FOLDER")
    arguments = parser.parse_args()
    # Workers outlive the process that started them by a moment: they become children of this one.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    measured, found = {}, {}
    for given in arguments.checkout:
        name, _, folder = given.partition("=")
        with tempfile.TemporaryDirectory(dir=arguments.project.resolve().parent) as place:
            project = _import_into(Path(place) / "project", arguments.project.resolve())
            measured[name] = _measure(project, Path(folder).resolve())
            found[name] = _found(project)
    print(f"| stage | {' | '.join(f'{name} [s] | CPU [s]' for name in measured)} |")
    print(f"|---|{'---|---|' * len(measured)}")
    for stage in ("check", *STAGES, "together"):
        cells = [f"{number:.0f}" for times in measured.values() for number in times[stage]]
        print(f"| {stage} | {' | '.join(cells)} |", flush=True)
    first, *others = found.values()
    for key, value in first.items():
        same = all(other[key] == value for other in others)
        print(f"{key}: {'the same' if same else f'DIFFERENT: {[o[key] for o in found.values()]}'}")


def _import_into(place: Path, project: Path) -> Path:
    """Make a project that imports the base and the ingredients of another one."""
    keep_out = ("results", "checkpoints", ".stockpot", ".prefect", ".dvc")
    shutil.copytree(project, place, symlinks=True, ignore=shutil.ignore_patterns(*keep_out))
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    checkpoints = project / "checkpoints"
    params["base"] = {"import": str(next(checkpoints.glob("base/*.safetensors")))}
    files = [str(path) for path in sorted(checkpoints.glob("ingredients/*.safetensors"))]
    params["sweep"] = {"import": files, "size": 0, "min_ingredients": 2}
    (place / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return place


def _measure(project: Path, checkout: Path) -> dict[str, tuple[float, float]]:
    """Return the wall and CPU seconds of each stage."""
    stockpot = [sys.executable, "-m", "flows"]
    for stage in ("base", "sweep"):
        _run([*stockpot, stage], project, checkout)
    shutil.rmtree(project / ".stockpot" / "passes", ignore_errors=True)
    check = project / "check.py"
    check.write_text(CHECK, encoding="utf-8")
    commands = {"check": [sys.executable, str(check)]}
    commands |= {stage: [*stockpot, stage] for stage in STAGES}
    times = {}
    for stage, command in commands.items():
        times[stage] = _run(command, project, checkout)
        seconds = " s wall, ".join(f"{number:.0f}" for number in times[stage])
        print(f"{checkout.name}: {stage}, {seconds} s CPU", file=sys.stderr, flush=True)
    wall, cpu = (sum(column) for column in zip(*times.values(), strict=True))
    return times | {"together": (wall, cpu)}


def _run(command: Sequence[str], project: Path, checkout: Path) -> tuple[float, float]:
    """Run a command; return its wall and CPU seconds, those of its workers included."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    start, before = time.perf_counter(), _cpu_seconds()
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    with suppress(ChildProcessError):
        while True:
            os.wait()
    return wall, _cpu_seconds() - before


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _found(project: Path) -> dict[str, Any]:
    """Return what was decided: excluded ingredients, digests of soups, and the best one."""

    def manifest(stage: str) -> Any:
        return json.loads((project / "results" / f"{stage}.json").read_text(encoding="utf-8"))

    soups = [*manifest("soups")["soups"], *manifest("tune")["tuned"]]
    return {
        "excluded": manifest("sweep")["precheck"]["excluded"],
        "soups": {soup["name"]: soup["digest"] for soup in soups},
        "trials": [[t["values"] for t in s["trials"]] for s in manifest("tune")["tuned"]],
        "best soup": manifest("evaluation")["best_soup"],
    }


if __name__ == "__main__":
    main()
