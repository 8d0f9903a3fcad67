"""Does a sweep guided by its soup (`search: soup`) give a better soup than Sobol or random points?

    python benchmarks/soup_search.py [SEEDS] [SIZE]

Digits, in a space so wide that half of it is useless. For each of SEEDS (8) seeds, every search
trains SIZE (16) ingredients from the same base, and its greedy soup is scored. Printed are mean
accuracies over seeds in %, and the paired difference from Sobol with its 95 % interval (Student,
over seeds).
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from library_run import plan_in, warm_pool
from over_seeds import half_width, over_seeds

from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.proposing import propose
from stockpot.experiment.jobs.soups import SoupJob
from stockpot.experiment.jobs.training import TrainingJob
from stockpot.experiment.plan import Plan
from stockpot.experiment.state import inputs_key
from stockpot.judging.test_sets import test_sets
from stockpot.scoring.predictions import load_outputs, load_targets, predict
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Failure, Model
from stockpot.workers import WorkerPool

PARAMS = """
seed: {seed}
base: {{epochs: 60, augmentation: 0.7}}
sweep:
  search: {search}
  size: {size}
  space:
    learning_rate: {{log_uniform: [1.0e-4, 3.0e-2]}}
    epochs: {{integer: [2, 14]}}
    weight_decay: {{log_uniform: [1.0e-5, 1.0e-1]}}
    augmentation: {{uniform: [0.0, 1.0]}}
    mixup: {{uniform: [0.0, 1.0]}}
    label_smoothing: {{uniform: [0.0, 0.2]}}
    batch_size: 32
soups: [{{name: greedy, select: greedy}}]
"""
SEARCHES = ("sobol", "random", "soup")
PLACES = ("val", "test", "under shift")


def main(num_seeds: int, size: int) -> None:
    """Print the table."""
    pool = warm_pool(2)
    scores = {search: np.zeros((num_seeds, len(PLACES))) for search in SEARCHES}
    for seed in range(num_seeds):
        with tempfile.TemporaryDirectory() as folder:
            for search in SEARCHES:
                scores[search][seed] = _soup_scores(Path(folder), pool, search, seed, size)
    print(f"{num_seeds} seeds, {size} ingredients each\n")
    for search, rows in scores.items():
        for place, name in enumerate(PLACES):
            own, less = 100 * rows[:, place], over_seeds(100 * (rows - scores["sobol"])[:, place])
            against = f"{less.mean:+.2f} +- {half_width(less):.2f}" if search != "sobol" else ""
            print(f"{search:8s} {name:12s} {own.mean():6.2f}  {against}", flush=True)


def _soup_scores(
    folder: Path, pool: WorkerPool, search: str, seed: int, size: int
) -> tuple[float, ...]:
    params = folder / "params.yaml"
    params.write_text(PARAMS.format(seed=seed, search=search, size=size))
    plan = plan_in(folder, params, ())
    base = make_model(plan.base_job(), "cpu")
    assert isinstance(base, Model)
    write_manifest(folder, "base", {"inputs": inputs_key(plan, "base"), "base": base.to_json()})
    ingredients = [model for model in _sweep(plan, pool) if model is not None]
    job = SoupJob(
        root=folder, workload=plan.workload, name="greedy", select="greedy",
        method="linear", options={}, base=base, seed=seed, ingredients=tuple(ingredients),
        metric=plan.metric,
    )  # fmt: skip
    soup = make_model(job, "cpu")
    assert isinstance(soup, Model)
    test, *shifts = _judged(plan, soup)
    return soup.scores[plan.metric], test, float(np.mean(shifts))


def _sweep(plan: Plan, pool: WorkerPool) -> list[Model | None]:
    jobs: list[TrainingJob] = []
    models: list[Model | None] = []
    more = plan.ingredient_jobs()
    while more:
        jobs += more
        with ThreadPoolExecutor(2) as threads:
            made = list(threads.map(lambda job: pool.run(make_model, job), more))
        models += [None if isinstance(each, Failure) else each for each in made]
        proposal = plan.proposal_job(jobs, models)
        more = plan.fine_tuning_jobs(propose(proposal, "cpu"), len(jobs)) if proposal else []
    return models


def _judged(plan: Plan, model: Model) -> list[float]:
    sets, root, workload = test_sets(plan.workload), plan.project.root, plan.workload
    predict(root, workload, model.checkpoint, "cpu", sets)
    metric = next(iter(workload.build().metrics.values()))
    return [
        metric(load_outputs(root, workload, model.digest, name), load_targets(root, workload, name))
        .double().mean().item()
        for name in sets
    ]  # fmt: skip


if __name__ == "__main__":
    main(*(int(value) for value in (sys.argv[1:] + ["8", "16"][len(sys.argv) - 1 :])))
