"""Sparse model soups against magnitude pruning in as many phases without averages, over seeds.

    python benchmarks/sparse_phases.py 5        seeds 0 to 4, about half a minute each

The digits, 90 % of the weights pruned in three phases. With averages, each phase retrains three
models from the average before, for 5 epochs; without, one model for 15 epochs, so that both train
for 45 epochs. `single` is the ingredient of the last phase that is best on val. Printed is the mean
difference of the soup with its 95 % interval (Student, over seeds), in points of accuracy on test
and on average over its shifts. A seed changes the splits, the base and all runs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch
from library_run import ThisProcess, plan_in, run_library
from over_seeds import over_seeds, with_interval

from stockpot.merging.sparse_masks import density_after
from stockpot.storage.manifests import read_manifest

PARAMS = """
sweep:
  min_ingredients: 1
  precheck: {on_fail: warn}
  space: {learning_rate: 0.003, schedule: linear}
soups: [{name: soup, select: uniform}]
diagnose: []
evaluate: {bootstrap: 100, random_soups: 0, repeats: {m: 0}}
"""
_SPARSITY, _PHASES, _MODELS, _EPOCHS = 0.9, 3, 3, 5
_PLACES = {"test/accuracy": "test", "shift/mean/accuracy": "shifts"}
Scores = dict[str, dict[str, float]]


def main() -> None:
    """Measure the number of seeds on the command line."""
    torch.set_num_threads(1)
    found, start, num_seeds = [], time.monotonic(), int(sys.argv[1])
    for seed in range(num_seeds):
        found.append(scores(seed))
        shown = ", ".join(f"{name} {one['test/accuracy']:.1f}" for name, one in found[-1].items())
        left = (time.monotonic() - start) / (seed + 1) * (num_seeds - seed - 1)
        print(f"seed {seed}: {shown} ({left:.0f} s left)", flush=True)
    for other in ("without averages", "single"):
        for name, place in _PLACES.items():
            gains = [each["soup"][name] - each[other][name] for each in found]
            print(f"soup less {other}, {place}: {with_interval(over_seeds(gains))} points")


def scores(seed: int) -> Scores:
    """Return the accuracies in % of the soup, of pruning without averages, and of one model."""
    soups = _evaluated(seed, _MODELS, _EPOCHS)
    alone = _evaluated(seed, 1, _MODELS * _EPOCHS)
    return {
        "soup": soups["soup"],
        "without averages": alone["soup"],
        "single": soups["best ingredient"],
    }


def _evaluated(seed: int, models: int, epochs: int) -> Scores:
    densities = [density_after(number, _SPARSITY, _PHASES) for number in range(1, _PHASES + 1)]
    phases = [f"{{sparsity: {1 - kept}, models: {models}, epochs: {epochs}}}" for kept in densities]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
        overrides = (f"seed={seed}", f"sweep.phases=[{', '.join(phases)}]")
        plan = plan_in(root, root / "params.yaml", overrides)
        run_library(plan, ThisProcess(), last="evaluate")
        evaluation = read_manifest(root, "evaluate")
    metrics = {model["name"]: model["metrics"] for model in evaluation["models"]}
    metrics["best ingredient"] = metrics[evaluation["best_ingredient"]]
    return {
        name: {place: 100 * metrics[name][place] for place in _PLACES}
        for name in ("soup", "best ingredient")
    }


if __name__ == "__main__":
    main()
