"""FedAU compared with equal weights where clients take part at very different rates, over seeds.

    python benchmarks/rounds.py 0 5          seeds 0 to 4, about a minute each on an idle core
    python benchmarks/rounds.py 0 5 0.03     with this learning rate of the clients instead of 0.1

Ten clients of the digits, of few classes each (Dirichlet 0.1); five take part in 80 % of the
rounds, five in 8 %. All rules get the same shards, participants, initial weights and number of
rounds. The accuracy is that on val, averaged over the last ten rounds; nothing is chosen by it.
Prints one line per seed, then the mean difference to each baseline with a 95 % interval (paired t).

`participants`: the mean change of those that take part. `all`: the sum of their changes divided by
the number of all clients, which is FedAU with weights of 1.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from over_seeds import over_seeds, with_interval

from stockpot.config import load_experiment
from stockpot.experiment.jobs.job import make_model
from stockpot.experiment.plan import Plan
from stockpot.storage.manifests import write_manifest
from stockpot.storage.models import Model
from stockpot.storage.project import Project

PARAMS = """
base: {{epochs: 1}}
sweep:
  size: 0
  min_ingredients: 1
  rounds:
    - &shared
      name: fedau
      rule: fedau
      rounds: {rounds}
      clients: 10
      concentration: 0.1
      participation: [0.8, 0.8, 0.8, 0.8, 0.8, 0.08, 0.08, 0.08, 0.08, 0.08]
      start: random
      client: {{learning_rate: {rate}, batch_size: 32}}
    - {{<<: *shared, name: all, cutoff: 1}}
    - {{<<: *shared, name: participants, rule: server_momentum, momentum: 0}}
soups: [{{name: uniform, select: uniform}}]
"""
_ROUNDS, _LAST = 100, 10


def accuracies(seed: int, rate: float) -> dict[str, float]:
    """Return the mean val accuracy of the last rounds, by the name of the rule."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "params.yaml").write_text(PARAMS.format(rounds=_ROUNDS, rate=rate))
        experiment = load_experiment(root / "params.yaml", (f"seed={seed}",))
        plan = Plan(Project(root, root / "params.yaml"), experiment)
        base = _made(plan.base_job())
        write_manifest(root, "base", {"inputs": "", "base": base.to_json(), "files": {}})
        return {
            job.name.removeprefix("rounds-"): _mean_of_last(_made(job).details["history"])
            for job in plan.rounds_jobs()
        }


def main() -> None:
    """Measure all seeds of the range on the command line."""
    torch.set_num_threads(1)
    first, end = int(sys.argv[1]), int(sys.argv[2])
    rate = float(sys.argv[3]) if len(sys.argv) > 3 else 0.1
    found = []
    for seed in range(first, end):
        found.append(accuracies(seed, rate))
        shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in found[-1].items())
        print(f"seed {seed}: {shown}", flush=True)
    for baseline in ("participants", "all"):
        gains = [100 * (each["fedau"] - each[baseline]) for each in found]
        print(f"fedau minus {baseline}: {with_interval(over_seeds(gains))} points")


def _made(job: Any) -> Model:
    model = make_model(job, "cpu")
    assert isinstance(model, Model), model
    return model


def _mean_of_last(history: list[tuple[int, float]]) -> float:
    return sum(score for _, score in history[-_LAST:]) / _LAST


if __name__ == "__main__":
    main()
