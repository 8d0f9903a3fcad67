"""Tuned TIES and a tuned profile of slerp against their defaults and against tuned averages.

    python benchmarks/tuned_methods.py digits FOLDER 0 6           seeds 0 to 5
    python benchmarks/tuned_methods.py fashion_mnist FOLDER 0 5    Debian's dataset-fashion-mnist
    python benchmarks/tuned_methods.py digits FOLDER               the table of the seeds in FOLDER

A seed changes the splits, the base, the sweep and the samplers. Its ingredients are trained once
and kept in FOLDER; a seed that is done is skipped. All searches have 60 trials of TPE and see val;
test and its shifts are opened when all soups are made.

Printed is a Markdown table of mean paired differences over seeds in points of accuracy, with 95 %
intervals (Student), on val, on test and on average over five shifts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from library_run import ThisProcess, plan_in, run_library
from over_seeds import over_seeds, verdict, with_interval
from swept_seeds import accuracies, run_seeds

from stockpot.experiment.jobs.job import make_model
from stockpot.storage.models import Model

RECIPES = """
soups:
  - {name: uniform, select: uniform}
  - {name: greedy, select: greedy}
  - {name: ties, select: uniform, method: ties}
  - {name: slerp, select: top_k, k: 2, method: slerp, options: {t: 0.5}}
tune:
  - {name: tuned linear, trials: 60}
  - name: tuned ties
    method: ties
    space: {density: {uniform: [0.1, 1]}, scale: {log_uniform: [0.3, 3]}}
    trials: 60
  - {name: tuned ties and weights, method: ties, trials: 60}
  - {name: tuned slerp profile, method: slerp, top_k: 2, per: {layer_group: 3}, trials: 60}
"""
PAIRS = (
    ("tuned ties", "ties"),
    ("tuned ties and weights", "ties"),
    ("tuned slerp profile", "slerp"),
    ("tuned ties", "tuned linear"),
    ("tuned ties and weights", "tuned linear"),
    ("tuned slerp profile", "tuned linear"),
    ("tuned linear", "greedy"),
)
PLACES = ("val", "test", "shifts")


def of_seed(root: Path, sweep: str, seed: int) -> dict[str, dict[str, float]]:
    """Train the ingredients, make the soups, then measure them; accuracies by soup and place."""
    root.mkdir(parents=True, exist_ok=True)
    params = root / "params.yaml"
    fixed = yaml.safe_dump({"seed": seed, "diagnose": []})
    params.write_text(sweep + RECIPES + fixed, encoding="utf-8")
    plan = plan_in(root, params, ())
    if not (root / "results" / "sweep.json").exists():
        run_library(plan, ThisProcess(), last="sweep")
    made = [make_model(job, "cpu") for job in (*plan.soup_jobs(), *plan.tuning_jobs())]
    soups = [soup for soup in made if isinstance(soup, Model)]
    return {soup.name: accuracies(plan, soup) for soup in soups}


def table(found: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Return the lines of the table, from the results of each seed."""
    lines = [
        f"{len(found)} seeds\n",
        "| soup | minus | val | test | under shift | on test |",
        "|---|---|---|---|---|---|",
    ]
    for soup, other in PAIRS:
        shown: dict[str, Any] = {
            place: over_seeds([seed[soup][place] - seed[other][place] for seed in found])
            for place in PLACES
        }
        cells = [with_interval(estimate, digits=2) for estimate in shown.values()]
        lines.append(f"| {soup} | {other} | {' | '.join(cells)} | {verdict(shown['test'])} |")
    means = {soup: sum(seed[soup]["test"] for seed in found) / len(found) for soup in found[0]}
    lines += ["", "mean on test: " + ", ".join(f"{s} {m:.2f} %" for s, m in means.items())]
    return lines


if __name__ == "__main__":
    run_seeds(__doc__, of_seed, table, prefix="tuned-")
