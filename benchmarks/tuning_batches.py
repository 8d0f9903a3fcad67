"""Batches of proposals: what a search of equal trials loses where it sees fewer results.

    python benchmarks/tuning_batches.py FOLDER      a folder of benchmarks/tuned_methods.py

For the ingredients of each seed in FOLDER, TPE searches the coefficients of averages and everything
that TIES offers, 60 trials each, in batches of 1, 4 and 8. Printed is the mean paired difference
from batches of 1 over seeds, of the best val score in points, with its 95 % interval (Student).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from library_run import plan_in
from over_seeds import over_seeds, with_interval

from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.experiment.plan import Plan
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.storage.models import Model

BATCHES = (1, 4, 8)
METHODS = ("linear", "ties")


def main() -> None:
    """Search for each seed and batch, and print a line per method and batch."""
    torch.set_num_threads(1)
    folders = sorted(path.parents[1] for path in Path(sys.argv[1]).glob("*/results/sweep.json"))
    plans = [plan_in(folder, folder / "params.yaml", ()) for folder in folders]
    for method in METHODS:
        best = {batch: [_best(plan, method, batch) for plan in plans] for batch in BATCHES}
        for batch in BATCHES[1:]:
            less = [100 * (own - one) for own, one in zip(best[batch], best[1], strict=True)]
            print(f"{method}, batch {batch}: {with_interval(over_seeds(less), digits=2)} points")


def _best(plan: Plan, method: str, batch: int) -> float:
    job: TuningJob = plan.tuning_jobs()[0]
    search = OptunaSearch(method=method, trials=60, batch=batch)
    soup = make_model(replace(job, name=f"{method} {batch}", search=search), "cpu")
    assert isinstance(soup, Model)
    return soup.scores[plan.metric]


if __name__ == "__main__":
    main()
