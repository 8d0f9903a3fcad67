"""All selections on the same ingredients, compared with the greedy soup over seeds.

    python benchmarks/selections.py digits FOLDER 0 12           seeds 0 to 11
    python benchmarks/selections.py fashion_mnist FOLDER 0 5     Debian's dataset-fashion-mnist
    python benchmarks/selections.py digits FOLDER                the table of the seeds in FOLDER

A seed changes the splits, the base, the sweep and all random choices. Its ingredients are trained
once and cached in FOLDER, so that selections can be changed and compared again; a seed that is
done is skipped. Selections see val alone: test and its shifts are opened when all soups are made.

Printed is a Markdown table: per selection, the mean paired difference from `greedy` in points of
accuracy on val, and with its 95 % interval (Student, over seeds) on test and on average over five
shifts; the lower p of the two paired t-tests after Holm's correction over all selections and both
places; the soups that were evaluated, whole or in part, and the ingredients in the soup.

The sweep of the digits is wide: half of its points are useless, and the check before merging leaves
some of them out. That of Fashion-MNIST is narrow.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from library_run import ThisProcess, plan_in, run_library
from over_seeds import over_seeds, with_interval
from scipy.stats import ttest_1samp
from swept_seeds import accuracies, run_seeds

from stockpot.experiment.jobs.candidate_soups import CandidateSoups
from stockpot.experiment.jobs.job import make_model
from stockpot.statistics.holm import holm
from stockpot.storage.models import Model
from stockpot.storage.ranking import best

REFERENCE, BEST = "greedy", "the best ingredient"
SELECTIONS: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"select": "greedy"},
    "uniform": {"select": "uniform"},
    "top_k, k: 5": {"select": "top_k", "k": 5},
    "diverse_greedy, by: errors": {"select": "diverse_greedy"},
    "diverse_greedy, by: task_vectors": {"select": "diverse_greedy", "by": "task_vectors"},
    "cross_validated_greedy": {"select": "cross_validated_greedy"},
    "greedy_with_replacement": {"select": "greedy_with_replacement"},
    "greedy_with_replacement, additions: 30": {
        "select": "greedy_with_replacement",
        "additions": 30,
    },
    "greedy_with_replacement, bags: 10": {"select": "greedy_with_replacement", "bags": 10},
    "greedy_restarts": {"select": "greedy_restarts"},
    "greedy_restarts, orders: 20": {"select": "greedy_restarts", "orders": 20},
    "beam": {"select": "beam"},
    "beam, width: 16": {"select": "beam", "width": 16},
    "backward_elimination": {"select": "backward_elimination"},
    "soce": {"select": "soce"},
}
PLACES = ("test", "shifts")


def of_seed(root: Path, sweep: str, seed: int) -> dict[str, dict[str, float]]:
    """Train the ingredients, make the soups, and then measure them on test and its shifts.

    Returns:
        By selection: the accuracies, the number of soups scored, and that of ingredients used.
    """
    root.mkdir(parents=True, exist_ok=True)
    soups = [{"name": f"soup {n}", **recipe} for n, recipe in enumerate(SELECTIONS.values())]
    fixed = {"seed": seed, "soups": soups, "diagnose": [], "tune": []}
    params = root / "params.yaml"
    params.write_text(sweep + yaml.safe_dump(fixed), encoding="utf-8")
    plan = plan_in(root, params, ())
    run_library(plan, ThisProcess(), last="sweep")
    shutil.rmtree(root / "checkpoints" / "soups", ignore_errors=True)  # to count their evaluations
    made = {}
    for name, job in zip(SELECTIONS, plan.soup_jobs(), strict=True):
        with Evaluations() as evaluations:
            soup = make_model(job, "cpu")
        assert isinstance(soup, Model)
        size = len([share for share in soup.details["coefficients"].values() if share])
        made[name] = soup, {"evaluations": evaluations.count, "size": size}
    one = best(plan.ingredients(), plan.metric)
    made[BEST] = one, {"evaluations": 0, "size": 1}
    return {name: counts | accuracies(plan, soup) for name, (soup, counts) in made.items()}


class Evaluations:
    """Counts the soups that selections evaluate, whole or until they are known to lose."""

    def __enter__(self) -> Evaluations:
        """Start to count."""
        self.count, self._merge = 0, CandidateSoups._candidate

        def counted(*arguments: Any) -> Any:
            self.count += 1
            return self._merge(*arguments)

        CandidateSoups._candidate = counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop."""
        CandidateSoups._candidate = self._merge  # type: ignore[method-assign]


def table(found: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Return the lines of the table, from the results of each seed."""
    others = [name for name in (*SELECTIONS, BEST) if name != REFERENCE]
    less = {
        (name, place): [seed[name][place] - seed[REFERENCE][place] for seed in found]
        for name in others
        for place in PLACES
    }
    p_values = [ttest_1samp(each, 0).pvalue if any(each) else 1.0 for each in less.values()]
    adjusted = dict(zip(less, holm(p_values), strict=True))

    def mean(name: str, what: str) -> float:
        return sum(seed[name][what] for seed in found) / len(found)

    reference = " | ".join(f"{mean(REFERENCE, place):.2f} %" for place in ("val", *PLACES))
    lines = [
        f"{len(found)} seeds\n",
        "| selection | val | test | under shift | lowest p (Holm) | soups scored | ingredients |",
        "|---|---|---|---|---|---|---|",
        f"| {REFERENCE} | {reference} | | {_counts(mean, REFERENCE)} |",
    ]
    for name in others:
        shown = [with_interval(over_seeds(less[name, place]), digits=2) for place in PLACES]
        shown.insert(0, f"{mean(name, 'val') - mean(REFERENCE, 'val'):+.2f}")
        lowest = min(adjusted[name, place] for place in PLACES)
        lines.append(f"| {name} | {' | '.join(shown)} | {lowest:.2g} | {_counts(mean, name)} |")
    return lines


def _counts(mean: Any, name: str) -> str:
    return f"{mean(name, 'evaluations'):.0f} | {mean(name, 'size'):.1f}"


if __name__ == "__main__":
    run_seeds(__doc__, of_seed, table)
