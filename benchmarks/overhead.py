"""Measure the overhead of the pipeline: a fixed time, and a factor on the work.

Each round runs the same experiment in two sizes (short and long fine-tuning), each in two ways: as
a whole `stockpot run` process in a fresh project, and as plain library calls in the same number of
warm worker processes. A line through the two sizes separates the fixed time (imports, the Prefect
server, shut-down) from the time that grows with the work.

    python benchmarks/overhead.py [ROUNDS]

Lower limit: a factor of 1, and about 8 s for starting a Prefect server and importing Prefect,
MLflow and torch on 2 cores.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from library_run import plan_in, run_library, warm_pool

ROOT = Path(__file__).parent.parent
_SIZES = {
    "short": ["sweep.space.epochs=5"],
    "long": ["sweep.space.epochs=60"],
}


def main() -> None:
    """Run the rounds and print the results."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    pool = warm_pool(2)
    fixed, factors = [], []
    print(f"{'round':>5} {'size':>6} {'library s':>10} {'run s':>8}")
    for number in range(rounds):
        seconds = {}
        for size, overrides in _SIZES.items():
            with tempfile.TemporaryDirectory() as folder:
                plan = plan_in(Path(folder), ROOT / "params.yaml", overrides)
                work = sum(run_library(plan, pool).values())
            seconds[size] = work, _run(overrides)
            print(f"{number:>5} {size:>6} {work:>10.1f} {seconds[size][1]:>8.1f}", flush=True)
        (work, run), (more_work, longer_run) = seconds["short"], seconds["long"]
        factors.append((longer_run - run) / (more_work - work))
        fixed.append(run - factors[-1] * work)
    pool.close()
    print(f"\nfixed:  {statistics.median(fixed):5.1f} s   (each round: {_shown(fixed)})")
    print(f"factor: {statistics.median(factors):5.2f}     (each round: {_shown(factors)})")


def _run(overrides: list[str]) -> float:
    """Time a whole `stockpot run` in a fresh project with DVC."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("params.yaml", "dvc.yaml", ".dvcignore", "stockpot"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, Path(folder) / name)
        subprocess.run(
            [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True
        )
        command = [sys.executable, "-m", "flows", "run"]
        command += [part for override in overrides for part in ("--set", override)]
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - start


def _shown(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    main()
