"""The greedy soup compared with the best ingredient, over seeds of the default experiment.

    python benchmarks/seeds.py 500 512      seeds 500 to 511, about a minute each on 2 cores

Prints one line per seed and the mean difference under shift, in points of accuracy. A seed changes
the splits, the base, the sweep and the tuning.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import stockpot

PARAMS = Path(__file__).parents[1] / "params.yaml"
_ONLY_SOUPS = ["diagnose=[]", "tune=[]", "evaluate.random_soups=0", "evaluate.repeats.m=0"]
_DIFFERENCE = "difference/shift/mean/accuracy"


def difference(seed: int) -> tuple[float, float, float]:
    """Run the experiment; return greedy minus best ingredient under shift, with its interval."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(PARAMS, folder)
        settings = [f"--set={setting}" for setting in (f"seed={seed}", *_ONLY_SOUPS)]
        subprocess.run(["stockpot", "run", *settings], cwd=folder, check=True, capture_output=True)
        greedy = stockpot.load_results(folder).models.loc["greedy"]
    low, high = (float(greedy[f"{_DIFFERENCE}_{end}"]) for end in ("low", "high"))
    return float(greedy[_DIFFERENCE]), low, high


def main() -> None:
    """Measure all seeds of the range on the command line."""
    first, end = int(sys.argv[1]), int(sys.argv[2])
    differences = []
    for seed in range(first, end):
        mean, low, high = difference(seed)
        differences.append(mean)
        print(f"seed {seed}: {100 * mean:+.1f} [{100 * low:.1f}, {100 * high:.1f}]", flush=True)
    count = len(differences)
    print(
        f"mean of {count} seeds {100 * sum(differences) / count:+.1f} "
        f"({100 * min(differences):.1f} to {100 * max(differences):.1f}), "
        f"at least +3.0 in {sum(d >= 0.03 for d in differences)}"
    )


if __name__ == "__main__":
    main()
