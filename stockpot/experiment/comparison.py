"""Comparison of the best soups of finished runs: paired tests if the test examples are equal."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stockpot.config import load_experiment
from stockpot.errors import InputError
from stockpot.experiment.opening import import_from
from stockpot.experiment.plan import Plan
from stockpot.experiment.report_files import load_results
from stockpot.experiment.stages import MODEL_STAGES
from stockpot.judging.test_sets import cached_values, test_sets
from stockpot.reporting.compare.runs import Run, Runs
from stockpot.reporting.results import Results
from stockpot.reporting.tables.protocol import settings
from stockpot.reporting.words.comparisons import SHIFT, TEST
from stockpot.statistics.comparisons import compare_family
from stockpot.statistics.intervals import Intervals
from stockpot.storage.project import Project
from stockpot.workloads.spec import WorkloadSpec

if TYPE_CHECKING:
    from stockpot.statistics.values import Floats
    from stockpot.tracking.recorded import PipelineRun

_RECIPE = re.compile(r"^(\w+)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run, and the location of its predictions.

    Attributes:
        run: its results.
        sets: digest by set of examples, as far as known.
        root: of the project that caches its predictions.
        workload: what it was judged on, as that project describes it now.
    """

    run: Run
    sets: Mapping[str, str]
    root: Path
    workload: WorkloadSpec


def run_of_folder(folder: Path) -> FinishedRun:
    """Read the run of a project folder.

    Raises:
        InputError: a stage has not run there, or its params.yaml is invalid.
    """
    folder = folder.resolve()
    project = Project(folder, folder / "params.yaml")
    import_from(project)
    try:
        plan = Plan(project, load_experiment(project.params_file))
        results = load_results(folder)
    except InputError as error:
        raise InputError(f"run {folder}: {error}") from error
    report = folder / "results" / "report.html"
    links = {"folder": str(folder)} | ({"report": report.as_uri()} if report.is_file() else {})
    run = Run(folder.name, results, _settings(plan.experiment.model_dump(mode="json")), links)
    is_own = _is_workload_of(plan.workload, folder)
    sets = test_sets(plan.workload) if is_own else ()
    digests = {name: plan.workload.set_digest(name) for name in sets}
    return FinishedRun(run, digests, folder, plan.workload)


def run_of_record(recorded: PipelineRun, plan: Plan, link: str | None = None) -> FinishedRun:
    """Read a run that is recorded in MLflow.

    Args:
        recorded: its parent run.
        plan: of its project, which caches its predictions.
        link: address of the run's page.

    Raises:
        InputError: results are missing among its artifacts.
    """
    try:
        manifests = {name: json.loads(text) for name, text in recorded.results.items()}
        results = Results(
            **{name: manifests[f"{name}.json"] for name in MODEL_STAGES},
            evaluation=manifests["evaluation.json"],
            diagnostics={
                name.removeprefix("diagnostics/").removesuffix(".json"): finding
                for name, finding in manifests.items()
                if name.startswith("diagnostics/")
            },
        )
    except KeyError as missing:
        raise InputError(
            f"run {recorded.run_id!r} ({recorded.name}): must have results/{missing.args[0]} among "
            "its artifacts; only runs that ended with a report have all results"
        ) from None
    label = f"{recorded.name} ({recorded.run_id[:8]})"
    params = _settings({name: _value(text) for name, text in recorded.params.items()})
    run = Run(label, results, params, {"MLflow run": link or recorded.run_id})
    return FinishedRun(run, recorded.datasets, plan.project.root, plan.workload)


def compare_runs(finished: Sequence[FinishedRun]) -> Runs:
    """Compare the best soup of each run with that of the first.

    The test is paired, with Holm's correction. It needs the same test examples and the cached
    predictions of both runs.

    Raises:
        InputError: there are fewer than two runs, or their workloads or metrics differ.
    """
    if len(finished) < 2:
        raise InputError(f"compare: needs two runs or more, got {len(finished)}")
    finished = _with_unique_labels(finished)
    _refuse_unlike(finished, "workload", [f.run.settings["workload.name"] for f in finished])
    _refuse_unlike(finished, "metric", [f.run.results.evaluation["metric"] for f in finished])
    first, *others = finished
    values, untested = _values(first, others)
    judged = first.run.results.evaluation
    intervals = Intervals(judged["bootstrap"], judged["confidence"], first.workload.seed)
    tested = compare_family(values, first.run.label, intervals)
    return Runs([each.run for each in finished], tested, untested)


def _refuse_unlike(finished: Sequence[FinishedRun], what: str, values: Sequence[str]) -> None:
    for each, value in zip(finished, values, strict=True):
        if value != values[0]:
            raise InputError(
                f"compare: runs must be of one {what}, got {values[0]!r} "
                f"({finished[0].run.label}) and {value!r} ({each.run.label})"
            )


def _values(
    first: FinishedRun, others: Sequence[FinishedRun]
) -> tuple[dict[str, dict[str, Floats]], dict[tuple[str, str], str]]:
    """Return per-example values (N,) by run and place, and the reasons of pairs not tested."""
    values: dict[str, dict[str, Floats]] = {first.run.label: {}}
    untested: dict[tuple[str, str], str] = {}
    for place, other in product((SHIFT, TEST), others):
        if not _sets(first, place) and not _sets(other, place):
            continue
        label = other.run.label
        try:
            _refuse_other_examples(first, other, place)
            reference, own = _best_values(first, place), _best_values(other, place)
        except InputError as why:
            untested[label, place] = str(why)
        else:
            values[first.run.label][place] = reference
            values.setdefault(label, {})[place] = own
    return values, untested


def _refuse_other_examples(first: FinishedRun, other: FinishedRun, place: str) -> None:
    sets, other_sets = (_sets(each, place) for each in (first, other))
    if sets.keys() != other_sets.keys():
        raise InputError("the two have different test shifts")
    if "" in (*sets.values(), *other_sets.values()):
        raise InputError("it is not known whether both were judged on the same test examples")
    if sets != other_sets:
        raise InputError("they were judged on different test examples")


def _sets(finished: FinishedRun, place: str) -> dict[str, str]:
    """Return the digests of the sets of a place; an unknown digest is empty."""
    evaluation = finished.run.results.evaluation
    shifts = [f"test_shift/{name}" for name in evaluation["test_shifts"]]
    names = ["test"] if place == TEST else shifts
    return {name: finished.sets.get(name, "") for name in names}


def _best_values(finished: FinishedRun, place: str) -> Floats:
    """Return the values (N,) of the best soup: of test, or the mean over the test shifts.

    Raises:
        InputError: its predictions are not cached.
    """
    from stockpot.scoring.shift_means import are_copies, mean_over_shifts

    best, workload = finished.run.best, finished.workload
    values = []
    for name in _sets(finished, place):
        if finished.sets[name] != workload.set_digest(name):
            raise InputError(f"params.yaml of {finished.root} now describes other test examples")
        try:
            values.append(cached_values(finished.root, workload, best["digest"], name))
        except InputError:
            raise InputError(
                f"predictions of {finished.run.label} by the current code are not cached in "
                f"{finished.root}; run `stockpot evaluate` there"
            ) from None
    if place == TEST:
        return values[0]
    copies = are_copies(workload, finished.run.results.evaluation["test_shifts"])
    return mean_over_shifts(values, copies)


def _is_workload_of(workload: WorkloadSpec, folder: Path) -> bool:
    """Return whether a user's own workload is imported from this folder."""
    module, _, class_name = workload.name.partition(":")
    if not class_name:
        return True
    found = find_spec(module)
    return found is not None and Path(found.origin or "").resolve().is_relative_to(folder)


def _with_unique_labels(finished: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Number the runs with equal labels."""
    counts: Counter[str] = Counter()
    unique = []
    for each in finished:
        label = each.run.label
        counts[label] += 1
        named = label if counts[label] == 1 else f"{label}, {counts[label]}"
        unique.append(replace(each, run=replace(each.run, label=named)))
    return unique


def _settings(experiment: Mapping[str, Any]) -> dict[str, str]:
    """Flatten params.yaml, with recipes by name and without unset values."""
    flat = {name: text for name, text in settings(experiment) if text != "-"}
    return {_RECIPE.sub(lambda hit: _by_name(hit, flat), name): t for name, t in flat.items()}


def _by_name(recipe: re.Match[str], flat: Mapping[str, str]) -> str:
    section, number = recipe.groups()
    return f"{section}.{flat.get(f'{section}.{number}.name', number)}."


def _value(text: str) -> Any:
    """Parse a parameter of MLflow: JSON, or the text of a Python value."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False}.get(text, text)
