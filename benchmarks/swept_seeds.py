"""Sweeps whose ingredients are trained once per seed, for benchmarks that compare soups of them.

Such a benchmark is called with a workload, a folder, and maybe the first seed and the one after
the last. The results of each seed are cached in the folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stockpot.experiment.plan import Plan
from stockpot.judging.test_sets import cached_values, predict_on_sets, test_sets
from stockpot.storage.atomic_files import write_json
from stockpot.storage.models import Model

DIGITS = """
base: {epochs: 60, augmentation: 0.7}
sweep:
  size: 16
  min_ingredients: 2
  space:
    learning_rate: {log_uniform: [1.0e-4, 3.0e-2]}
    epochs: {integer: [2, 14]}
    weight_decay: {log_uniform: [1.0e-5, 1.0e-1]}
    augmentation: {uniform: [0.0, 1.0]}
    mixup: {uniform: [0.0, 1.0]}
    label_smoothing: {uniform: [0.0, 0.2]}
    batch_size: 32
"""
FASHION_MNIST = """
workload:
  name: fashion_mnist
  val_shifts: [blur, scale]
  test_shifts: [noise, rotate, translate, contrast, occlude]
  options: {pretrain_size: 6000, train_size: 8000, val_size: 2000}
base: {learning_rate: 0.002, weight_decay: 0.01, epochs: 8, augmentation: 0.3, schedule: cosine}
sweep:
  size: 10
  min_ingredients: 2
  space:
    learning_rate: {log_uniform: [5.0e-4, 2.0e-3]}
    epochs: {integer: [2, 4]}
    batch_size: 64
    augmentation: {uniform: [0.1, 0.5]}
"""
SWEEPS = {"digits": DIGITS, "fashion_mnist": FASHION_MNIST}

Accuracies = Mapping[str, Mapping[str, float]]
"""By soup and place, in %; and what else a benchmark measures of a soup."""


def run_seeds(
    description: str,
    of_seed: Callable[[Path, str, int], Accuracies],
    table: Callable[[Sequence[Accuracies]], list[str]],
    prefix: str = "",
) -> None:
    """Run the seeds on the command line, and print the table of all that are done.

    Args:
        description: the docstring of the benchmark, whose first line is shown by --help.
        of_seed: (folder of the seed, its sweep, seed) -> results.
        table: results of two or more seeds -> lines.
        prefix: of the names of the files of results.
    """
    given = _arguments(description)
    torch.set_num_threads(1)
    folder = given.folder / given.workload
    for seed in range(*given.seeds):
        results = folder / f"{prefix}{seed}.json"
        if not results.exists():
            write_json(results, of_seed(folder / str(seed), SWEEPS[given.workload], seed))
            print(f"seed {seed} is done", flush=True)
    done = folder.glob(f"{prefix}[0-9]*.json")
    found: list[Any] = [json.loads(path.read_text()) for path in sorted(done)]
    if len(found) < 2:
        print(f"{len(found)} seeds are done; a table needs 2 or more")
        return
    print("\n".join(table(found)))


def _arguments(description: str) -> argparse.Namespace:
    """Return the workload, the folder, and the first seed and the one after the last."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("workload", choices=SWEEPS)
    parser.add_argument("folder", type=Path, help="of the models and the results")
    parser.add_argument("seeds", nargs="*", type=int, metavar="SEED", help="first, and end")
    given = parser.parse_args()
    if len(given.seeds) not in (0, 2):
        parser.error(f"SEED: must be the first and the one after the last, got {given.seeds}")
    given.seeds = given.seeds or [0, 0]
    return given


def accuracies(plan: Plan, model: Model) -> dict[str, float]:
    """Return a model's accuracies on val, on test and on average over the shifts, in %."""
    root, workload, sets = plan.project.root, plan.workload, test_sets(plan.workload)
    predict_on_sets(root, workload, model.checkpoint, "cpu", sets)
    test, *shifts = (
        100 * float(cached_values(root, workload, model.digest, one).mean()) for one in sets
    )
    val = 100 * model.scores[plan.metric]
    return {"val": val, "test": test, "shifts": sum(shifts) / len(shifts)}
