"""The numbers behind the plots as CSV files, for `dvc plots` and for spreadsheets.

Headers are the same for all workloads, because dvc.yaml names them; the column `metric` names the
metric of the scores.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from stockpot.reporting.results import Manifest, ModelEntry, Results, main_models, objective_values
from stockpot.reporting.words.objectives import better
from stockpot.storage.atomic_files import write_text

Cell = str | int | float | None  # None is written as an empty cell
Cells = Sequence[Cell]

_HEADERS = {
    "id_vs_shift": "model,kind,test,shift,metric",
    "shifts": "model,kind,shift,score,low,high,metric",
    "greedy": "soup,step,ingredient,val,at_most,accepted,metric",
    "tuning": "study,trial,source,val,val_shift,best,metric",
    "pareto": "study,trial,val,val_shift,on_front,metric",
    "random_soups": "model,place,pool,size,mean,sd,improvement_percent,metric",
    "wise_ft": "model,alpha,val,test,shift,metric",
    "reliability": "model,scaled,confidence,accuracy,count",
    "soup_size": "place,size,score,low,high,metric",
    "contributions": "soup,ingredient,place,shapley,error,without_it,metric",
}


def write_csv_files(folder: Path, results: Results) -> list[Path]:
    """Write the CSV files of a run's scores; one without rows has only its header.

    Args:
        folder: for the files; created if it is missing.
        results: the manifests of the run.

    Returns:
        The files written, in a fixed order.

    Raises:
        OSError: a file cannot be written; the files before it are complete.
    """
    evaluation, studies = results.evaluation, results.tune["tuned"]
    rows: dict[str, Iterable[Cells]] = {
        "id_vs_shift": _id_vs_shift(evaluation),
        "shifts": _shifts(evaluation),
        "greedy": (row for soup in results.soups["soups"] for row in _steps(soup)),
        "tuning": (row for study in studies for row in _trials(study)),
        "pareto": (row for study in studies for row in _pareto(study)),
        "random_soups": _random_soups(evaluation),
        "wise_ft": _wise_ft(evaluation),
    }
    metric = evaluation["metric"]
    paths = [_write(folder, name, ((*row, metric) for row in of)) for name, of in rows.items()]
    return [*paths, _write(folder, "reliability", _reliability(evaluation))]


def write_finding_csv_files(
    folder: Path, diagnostics: Mapping[str, Mapping[str, Any]]
) -> list[Path]:
    """Write the CSV files of diagnostics, for custom plots.

    Args:
        folder: for the files; created if it is missing.
        diagnostics: findings by name, as `Finding.to_json` returns them.

    Returns:
        The files written, soup_size.csv and contributions.csv; one without a finding, or without
        data, has only its header.
    """
    data = {name: finding["data"] for name, finding in diagnostics.items()}
    return [
        _write(folder, "soup_size", _soup_size(data.get("soup_size", {}))),
        _write(folder, "contributions", _contributions(data.get("contributions", {}))),
    ]


def _write(folder: Path, name: str, rows: Iterable[Cells]) -> Path:
    path, text = folder / f"{name}.csv", io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, f"{_HEADERS[name]}\n{text.getvalue()}")
    return path


def _id_vs_shift(evaluation: Manifest) -> Iterator[Cells]:
    metric = evaluation["metric"]
    for model in evaluation["models"]:
        scores = model["metrics"]
        shift = scores.get(f"shift/mean/{metric}")
        yield model["name"], model["kind"], scores[f"test/{metric}"], shift


def _shifts(evaluation: Manifest) -> Iterator[Cells]:
    for model in main_models(evaluation):
        for shift in evaluation["test_shifts"]:
            name = f"shift/{shift}/{evaluation['metric']}"
            interval = (model["metrics"].get(f"{name}_{end}") for end in ("low", "high"))
            yield model["name"], model["kind"], shift, model["metrics"][name], *interval


def _steps(soup: ModelEntry) -> Iterator[Cells]:
    for number, step in enumerate(soup["steps"], start=1):
        accepted = "true" if step["accepted"] else "false"
        at_most = step.get("stopped", {}).get("at_most")
        yield soup["name"], number, step["ingredient"], step["score"], at_most, accepted


def _trials(study: ModelEntry) -> Iterator[Cells]:
    """Yield the trials, with the best value so far of the study's first objective."""
    bests = accumulate(
        (trial["values"][0] for trial in study["trials"]), better(study["recipe"]["objectives"][0])
    )
    for trial, best in zip(study["trials"], bests, strict=True):
        values = objective_values(study, trial["values"])
        objectives = (values.get("val"), values.get("val_shift"))
        yield study["name"], trial["number"], trial["source"], *objectives, best


def _pareto(study: ModelEntry) -> Iterator[Cells]:
    if len(study["recipe"]["objectives"]) < 2:
        return
    front = {point["number"] for point in study["front"]}
    for trial in study["trials"]:
        values = objective_values(study, trial["values"])
        on_front = "true" if trial["number"] in front else "false"
        yield study["name"], trial["number"], *map(values.get, ("val", "val_shift")), on_front


def _random_soups(evaluation: Manifest) -> Iterator[Cells]:
    for row in evaluation.get("random_soups", {}).get("rows", []):
        where = (row["model"], row["place"], row["pool"], row["size"])
        yield *where, row["mean"], row["sd"], 100 * row["ri"]


def _wise_ft(evaluation: Manifest) -> Iterator[Cells]:
    for path in evaluation.get("wise_ft", []):
        for place, alpha in enumerate(path["alphas"]):
            shift = path["shift"][place] if path.get("shift") else None
            yield path["model"], alpha, path["val"][place], path["test"][place], shift


def _reliability(evaluation: Manifest) -> Iterator[Cells]:
    for model, binned in evaluation.get("reliability", {}).items():
        for name, scaled in (("bins", "false"), ("scaled", "true")):
            for one in binned[name]:
                yield model, scaled, one["confidence"], one["accuracy"], one["count"]


def _soup_size(data: Mapping[str, Any]) -> Iterator[Cells]:
    for place, curve in data.get("curves", {}).items():
        values = zip(curve["mean"], curve["low"], curve["high"], strict=True)
        for size, scores in enumerate(values, start=1):
            yield place, size, *scores, data["metric"]


def _contributions(data: Mapping[str, Any]) -> Iterator[Cells]:
    for group in data.get("groups", []):
        for row in group["rows"]:
            for place in data["places"]:
                values = (row[name][place] for name in ("shapley", "error", "change"))
                yield group["name"], row["ingredient"], place, *values, data["metric"]
