"""How long each stage after the sweep takes, with the code of one checkout or of two.

The sweep of the project must have run. Each checkout works in a copy of the project without its
later results and caches of passes, so that nothing is found from before:

    python benchmarks/after_sweep.py PROJECT --checkout before=../old --checkout after=.

The check before merging belongs to the stage sweep; it is run alone here, on one core, as a
worker does it. Times are of the wall clock: run on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("soups", "tune", "diagnose", "evaluate")
CHECK = """
import sys, torch
from pathlib import Path
from stockpot.config import load_experiment
from stockpot.experiment.jobs.prechecking import check_ingredients
from stockpot.experiment.plan import Plan
from stockpot.storage.manifests import read_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project
torch.set_num_threads(1)
root = Path.cwd()
params = root / "params.yaml"
plan = Plan(Project(root, params), load_experiment(params, ()))
listed = read_manifest(root, "sweep")["ingredients"]
check_ingredients(plan.precheck_job([Model.from_json(entry) for entry in listed]), "cpu")
"""


def main() -> None:
    """Run the stages with each checkout and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", type=Path, help="a project whose sweep has run")
    parser.add_argument("--checkout", action="append", required=True, metavar="NAME=FOLDER")
    arguments = parser.parse_args()
    seconds = {}
    for given in arguments.checkout:
        name, _, folder = given.partition("=")
        seconds[name] = _measure(arguments.project, Path(folder).resolve())
    print(f"| stage | {' | '.join(f'{name} [s]' for name in seconds)} |")
    print(f"|---|{'---|' * len(seconds)}")
    for stage in ("check", *STAGES):
        print(f"| {stage} | {' | '.join(f'{times[stage]:.0f}' for times in seconds.values())} |")
    print(f"| together | {' | '.join(f'{sum(t.values()):.0f}' for t in seconds.values())} |")


def _measure(project: Path, checkout: Path) -> dict[str, float]:
    """Return the seconds of each stage in a copy of a project."""
    with tempfile.TemporaryDirectory(dir=project.resolve().parent) as folder:
        copy = Path(folder) / "project"
        shutil.copytree(project, copy, symlinks=True)
        for cache in ("passes", "studies", "findings", "locks"):
            shutil.rmtree(copy / ".stockpot" / cache, ignore_errors=True)
        commands = {"check": [sys.executable, "-c", CHECK]} | {
            stage: [sys.executable, "-m", "flows", stage] for stage in STAGES
        }
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        times = {}
        for stage, command in commands.items():
            start = time.perf_counter()
            subprocess.run(
                command, cwd=copy, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            times[stage] = time.perf_counter() - start
    return times


if __name__ == "__main__":
    main()
