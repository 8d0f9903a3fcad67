"""The cost of a search: 500 trials on digits, against the plain loop of Optuna.

    python benchmarks/tuning_cost.py tpe [TRIALS]      CPU seconds and what takes them
    python benchmarks/tuning_cost.py cmaes [TRIALS]
    python benchmarks/tuning_cost.py learned [TRIALS]  coefficients by gradient, against TPE

The plain loop (`plain_search`) has a study in SQLite, one trial at a time, a dictionary average of
the models in memory, and a full pass over val. Its sampler has the same options. All times are CPU
seconds of one thread.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import torch
from choosing import digits_job
from optuna.samplers import CmaEsSampler, TPESampler
from optuna.study import Study
from optuna.trial import Trial
from torch.utils.data import DataLoader

from stockpot.experiment.jobs.tuning import TuningJob
from stockpot.merging.stack import IngredientStack
from stockpot.scoring.val_scores import ValScorer, score_on_val
from stockpot.soups.tuning import findings
from stockpot.soups.tuning.gradient_search import GradientSearch
from stockpot.soups.tuning.optuna_search import OptunaSearch
from stockpot.soups.tuning.proposals import Proposals
from stockpot.soups.tuning.search import Search
from stockpot.storage.checkpoints import load_tensors, verify
from stockpot.storage.models import Model
from stockpot.workloads.passes import empty_model

INGREDIENTS = 16
SAMPLERS = {
    "tpe": lambda: TPESampler(seed=0, multivariate=True),
    "cmaes": lambda: CmaEsSampler(seed=0),
}
PARTS = {
    "sampler": ((Proposals, "propose"), (Study, "tell")),
    "storage": ((Study, "add_trial"),),
    "merge": ((IngredientStack, "merge"),),
    "forward": ((ValScorer, "objectives"),),
    "importances": ((findings, "importances"),),
}


def main() -> None:
    """Run the part named on the command line."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    part, *given = sys.argv[1:]
    trials = int(*given or [500])
    with tempfile.TemporaryDirectory() as folder:
        job = _job(Path(folder))
        _found(job, OptunaSearch(trials=12))  # imports
        learned(job, trials) if part == "learned" else _compare(job, part, trials)


def learned(job: TuningJob, trials: int) -> None:
    """Compare coefficients by gradient with TPE."""
    for search in (OptunaSearch(trials=trials), GradientSearch()):
        seconds, soup = _found(job, search)
        print(f"{search.recipe['search']:10s} {seconds:6.2f} s, val {soup.scores[job.metric]:.4f}")


def plain_search(job: TuningJob, sampler: str, trials: int, storage: Path) -> float:
    """Search as a script does that follows Optuna's tutorial; return the best score."""
    workload = job.workload.build()
    model = empty_model(workload, "cpu")
    states = [load_tensors(verify(job.root, one.checkpoint)) for one in job.ingredients]

    def objective(trial: Trial) -> float:
        weights = [trial.suggest_float(f"w{n}", 0.0, 1.0) for n in range(len(states))]
        total = sum(weights)
        model.load_state_dict(
            {
                name: sum(w * state[name] for w, state in zip(weights, states, strict=True)) / total
                for name in states[0]
            }
        )
        correct = count = 0
        with torch.no_grad():
            for batch in DataLoader(workload.dataset("val"), batch_size=128):
                outputs = workload.forward(model, tuple(batch))
                correct += int((outputs.argmax(dim=1) == batch[-1]).sum())
                count += len(outputs)
        return correct / count

    study = optuna.create_study(
        storage=f"sqlite:///{storage}", direction="maximize", sampler=SAMPLERS[sampler]()
    )
    study.optimize(objective, n_trials=trials)
    return float(study.best_value)


def _compare(job: TuningJob, sampler: str, trials: int) -> None:
    plain, best = _cpu(lambda: plain_search(job, sampler, trials, job.root / "plain.db"))
    with timed() as spent:
        ours, soup = _found(job, OptunaSearch(sampler=sampler, trials=trials))
    print(f"{sampler}, {trials} trials, {INGREDIENTS} ingredients of the digits")
    print(f"plain loop {plain:7.2f} s, val {best:.4f}")
    print(f"tune       {ours:7.2f} s, val {soup.scores[job.metric]:.4f}: {plain / ours:.2f} x")
    for part, seconds in spent.items():
        print(f"  {part:12s} {seconds:6.2f} s, {seconds / ours:.0%}")
    scorer = ValScorer(job.workload.build(), "cpu")
    state = load_tensors(verify(job.root, job.base.checkpoint))
    least = trials * min(_cpu(lambda: scorer.val(state))[0] for _ in range(9))
    print(f"passes over val only {least:.2f} s, {plain / least:.1f} x")


def _found(job: TuningJob, search: Search) -> tuple[float, Model]:
    """Return the CPU time of a search, with the merge of its soup, and the soup."""
    name = f"{search.recipe}"
    seconds, soup = _cpu(lambda: replace(job, name=name, search=search).work("cpu"))
    return seconds, score_on_val(job.root, job.workload, soup, "cpu")


def _job(root: Path) -> TuningJob:
    """Return a search among ingredients of the digits."""
    greedy = digits_job(root, INGREDIENTS)
    return TuningJob(
        root=root, workload=greedy.workload, name="tuned", base=greedy.base, seed=0,
        ingredients=greedy.ingredients, metric=greedy.metric, search=OptunaSearch(),
    )  # fmt: skip


@contextmanager
def timed() -> Iterator[Counter[str]]:
    """Count the CPU time of the parts of a search."""
    spent: Counter[str] = Counter(dict.fromkeys(PARTS, 0))
    before = [(owner, name, getattr(owner, name)) for of in PARTS.values() for owner, name in of]
    for part, places in PARTS.items():
        for owner, name in places:
            setattr(owner, name, _counting(getattr(owner, name), part, spent))
    try:
        yield spent
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def _counting(function: Callable[..., Any], part: str, spent: Counter[str]) -> Callable[..., Any]:
    def counting(*arguments: Any, **options: Any) -> Any:
        seconds, result = _cpu(lambda: function(*arguments, **options))
        spent[part] += seconds  # type: ignore[assignment]
        return result

    return counting


def _cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
