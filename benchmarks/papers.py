"""The techniques of papers against the same budget without them, over seeds, on the digits.

    python benchmarks/papers.py                 all rows of docs/reference/papers.md in papers.yaml
    python benchmarks/papers.py 9 25            these rows
    python benchmarks/papers.py 9 --seeds 8     with seeds 0 to 7 instead of 0 to 4
    python benchmarks/papers.py 9 --write       writes the figure into the page too

A seed changes the splits, the base, the sweep and all random choices; the experiments of a row are
compared seed by seed. Printed is the mean difference with its 95 % interval (Student, over seeds),
in points of accuracy on test and on average over five shifts. Nothing was searched: settings are
those of papers.yaml. Of twenty such intervals, one excludes 0 by chance.

Experiments are run stage by stage in this process, on one core, without the pipeline around them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from library_run import ThisProcess, plan_in, run_library
from over_seeds import over_seeds, verdict, with_interval
from paper_figures import Figure, in_words, write

from stockpot.experiment.jobs.diagnosing import read_finding_files
from stockpot.experiment.plan import Plan
from stockpot.judging.test_sets import cached_values, predict_on_sets, test_sets
from stockpot.storage.manifests import read_manifest
from stockpot.storage.models import Model
from stockpot.storage.ranking import best

EXPERIMENTS = Path(__file__).with_suffix(".yaml")
_ACCURACY = {"test/accuracy": "test", "shift/mean/accuracy": "shifts"}
_NUMBERS = "diagnostics"


def main() -> None:
    """Measure the rows on the command line and print a table."""
    content = yaml.safe_load(EXPERIMENTS.read_text(encoding="utf-8"))
    given = arguments([*content["rows"]])
    rows = {number: content["rows"][number] for number in given.rows or content["rows"]}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), yaml.safe_dump(content["common"]))
        runs.plan(rows.values(), given.seeds)
        print("row | comparison | on | mean [95 % interval] | verdict")
        for number, row in rows.items():
            found = figures(row, [runs.of(row, seed) for seed in range(given.seeds)])
            for one in found:
                print(number, one.title, one.where, one.shown, one.verdict, sep=" | ", flush=True)
            if given.write:
                write(number, f"`python benchmarks/papers.py {number}`: {in_words(found)}")


def arguments(known: Sequence[int]) -> argparse.Namespace:
    """Return the rows and the number of seeds on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", type=int, metavar="ROW", help="default: all")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0 on")
    parser.add_argument("--write", action="store_true", help="write into docs/reference/papers.md")
    given = parser.parse_args()
    if unknown := sorted(set(given.rows) - set(known)):
        parser.error(f"ROW: must be one of {known}, got {unknown}")
    if given.seeds < 2:
        parser.error(f"--seeds: must be at least 2 for an interval, got {given.seeds}")
    return given


Measured = Mapping[str, Mapping[str, float]]
"""The metrics of each model of an experiment."""


def figures(row: Mapping[str, Any], of_seeds: Sequence[Mapping[str, Measured]]) -> list[Figure]:
    """Return the figures of a row: one per comparison and metric, and one per reported value.

    Args:
        row: of papers.yaml.
        of_seeds: the metrics by the name of the run, for each seed.
    """

    def values(model: str, metric: str) -> list[float]:
        run, _, name = model.partition("/")
        scale = 1 if name == _NUMBERS else 100
        return [scale * runs[run][name][metric] for runs in of_seeds]

    found = []
    for title, ours, theirs, *metrics in row.get("compared", ()):
        for metric in metrics[0] if metrics else _ACCURACY:
            pairs = zip(values(ours, metric), values(theirs, metric), strict=True)
            less = over_seeds([own - other for own, other in pairs])
            where = _ACCURACY.get(metric, f"`{metric}`")
            judged = verdict(less, lower_is_better=metric.endswith("ece"))
            found.append(Figure(title, where, with_interval(less), judged))
    for title, model, metrics in row.get("reported", ()):
        for metric in metrics:
            mean = over_seeds(values(model, metric))
            found.append(Figure(title, f"`{metric}`", with_interval(mean, digits=3, sign="")))
    return found


@dataclass
class Runs:
    """The experiments of all rows and seeds, each run once.

    Attributes:
        folder: of one project per seed: models that several experiments share are made once.
        common: params.yaml.
    """

    folder: Path
    common: str
    _num_planned: int = 0
    _done: dict[str, Measured] = field(default_factory=dict)
    _begun: float = field(default_factory=time.monotonic)

    def plan(self, rows: Iterable[Mapping[str, Any]], num_seeds: int) -> None:
        """Count the experiments of all rows and seeds, to show the time left."""
        different = {
            (_text(fields), row.get("judged", False))
            for row in rows
            for fields in row["runs"].values()
        }
        self._num_planned = len(different) * num_seeds

    def of(self, row: Mapping[str, Any], seed: int) -> dict[str, Measured]:
        """Return the metrics of a row's runs, by the name of the run."""
        judge = row.get("judged", False)
        return {name: self._run(fields, seed, judge) for name, fields in row["runs"].items()}

    def _run(self, fields: Mapping[str, Any], seed: int, is_judged: bool) -> Measured:
        key = f"{seed} {is_judged} {_text(fields)}"
        if key not in self._done:
            root = self.folder / str(seed)
            root.mkdir(exist_ok=True)
            (root / "params.yaml").write_text(self.common, encoding="utf-8")
            changes = [f"{name}={_text(value)}" for name, value in fields.items()]
            plan = plan_in(root, root / "params.yaml", [f"seed={seed}", *changes])
            self._done[key] = evaluated(plan) if is_judged else measured(plan)
            self._show_progress()
        return self._done[key]

    def _show_progress(self) -> None:
        done, minutes = len(self._done), (time.monotonic() - self._begun) / 60
        left = minutes / done * (self._num_planned - done)
        text = f"{done} of {self._num_planned} experiments, {left:.1f} min left"
        print(text, file=sys.stderr, flush=True)


def measured(plan: Plan) -> Measured:
    """Run an experiment up to its diagnostics; return the accuracies of its models."""
    run_library(plan, ThisProcess(), last="diagnose")
    chosen = best(plan.ingredients(), plan.metric).name
    models = {model.name: _accuracies(plan, model) for model in plan.models()}
    numbers = {
        f"{diagnostic}/{name}": value
        for diagnostic, finding in read_finding_files(plan.project.root).items()
        for name, value in finding["metrics"].items()
    }
    return {**models, "best": models[chosen], _NUMBERS: numbers}


def _accuracies(plan: Plan, model: Model) -> dict[str, float]:
    root, workload, sets = plan.project.root, plan.workload, test_sets(plan.workload)
    predict_on_sets(root, workload, model.checkpoint, "cpu", sets)
    test, *shifts = (cached_values(root, workload, model.digest, one).mean() for one in sets)
    return dict(zip(_ACCURACY, (float(test), float(sum(shifts) / len(shifts))), strict=True))


def evaluated(plan: Plan) -> Measured:
    """Run an experiment up to its evaluation; return all metrics of its models."""
    run_library(plan, ThisProcess(), last="evaluate")
    evaluation = read_manifest(plan.project.root, "evaluate")
    models = {model["name"]: model["metrics"] for model in evaluation["models"]}
    kinds = {model["kind"]: model["metrics"] for model in evaluation["models"]}
    best_one = models[evaluation["best_ingredient"]]
    return {**models, "best": best_one, "repeats": kinds.get("repeats", {})}


def _text(value: Any) -> str:
    """Return a value in YAML, on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    )


if __name__ == "__main__":
    main()
