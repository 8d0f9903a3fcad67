"""The numbers behind the plots as CSV files, for `dvc plots` and for spreadsheets.

Headers name the metric of the workload where a column holds it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stockpot.atomic_files import write_text
from stockpot.reporting.results import Manifest, Model, Results, objective_values

Cell = str | int | float | None  # None is written as an empty cell
Cells = Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One CSV file: its header and its rows."""

    header: Sequence[str]
    rows: Sequence[Cells]


def write_csv_files(folder: Path, results: Results) -> list[Path]:
    """Write the CSV files of a run's scores; one without rows has its header alone.

    Args:
        folder: where they go; made if it is missing.
        results: the manifests of the run.

    Returns:
        The files written, in a fixed order.

    Raises:
        OSError: a file cannot be written; those before it are whole.
    """
    evaluation, studies = results.evaluation, results.tune["tuned"]
    of = evaluation["metric"]
    val, val_shift = f"val_{of}", f"val_shift_{of}"
    sheets = {
        "id_vs_shift": Sheet(
            ("model", "kind", f"test_{of}", f"shift_{of}"), [*_id_vs_shift(evaluation)]
        ),
        "shifts": Sheet(("model", "kind", "shift", of, "low", "high"), [*_shifts(evaluation)]),
        "greedy": Sheet(
            ("soup", "step", "ingredient", val, "accepted"),
            [row for soup in results.soups["soups"] for row in _steps(soup)],
        ),
        "tuning": Sheet(
            ("study", "trial", "source", val, val_shift, "best"),
            [row for study in studies for row in _trials(study)],
        ),
        "pareto": Sheet(
            ("study", "trial", val, val_shift, "on_front"),
            [row for study in studies for row in _pareto(study)],
        ),
        "random_soups": Sheet(
            ("model", "place", "pool", "size", f"mean_{of}", "sd", "improvement_percent"),
            [*_random_soups(evaluation)],
        ),
        "wise_ft": Sheet(
            ("model", "alpha", val, f"test_{of}", f"shift_{of}"), [*_wise_ft(evaluation)]
        ),
        "reliability": Sheet(
            ("model", "scaled", "confidence", "accuracy", "count"), [*_reliability(evaluation)]
        ),
    }
    return _write(folder, sheets)


def write_finding_csv_files(
    folder: Path, diagnostics: Mapping[str, Mapping[str, Any]]
) -> list[Path]:
    """Write the CSV files of diagnostics whose numbers one wants to plot oneself.

    Args:
        folder: where they go; made if it is missing.
        diagnostics: findings by name, as `Finding.to_json` gives them.

    Returns:
        The files written: soup_size.csv and contributions.csv, where there is such a finding.
    """
    sheets = {
        name: rows(diagnostics[name]["data"])
        for name, rows in (("soup_size", _soup_size), ("contributions", _contributions))
        if name in diagnostics and diagnostics[name]["data"]
    }
    return _write(folder, sheets)


def _write(folder: Path, sheets: Mapping[str, Sheet]) -> list[Path]:
    paths = []
    for name, sheet in sheets.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(sheet.header)
        writer.writerows(sheet.rows)
        write_text(folder / f"{name}.csv", text.getvalue())
        paths.append(folder / f"{name}.csv")
    return paths


def _id_vs_shift(evaluation: Manifest) -> Iterator[Cells]:
    metric = evaluation["metric"]
    for model in evaluation["models"]:
        scores = model["metrics"]
        shift = scores.get(f"shift/mean/{metric}")
        yield model["name"], model["kind"], scores[f"test/{metric}"], shift


def _shifts(evaluation: Manifest) -> Iterator[Cells]:
    for model in evaluation["models"]:
        for shift in evaluation["test_shifts"]:
            name = f"shift/{shift}/{evaluation['metric']}"
            interval = (model["metrics"].get(f"{name}_{end}") for end in ("low", "high"))
            yield model["name"], model["kind"], shift, model["metrics"][name], *interval


def _steps(soup: Model) -> Iterator[Cells]:
    for number, step in enumerate(soup["steps"], start=1):
        accepted = "true" if step["accepted"] else "false"
        yield soup["name"], number, step["ingredient"], step["score"], accepted


def _trials(study: Model) -> Iterator[Cells]:
    """Yield the trials with the best value so far of the study's first objective."""
    best = float("-inf")
    for trial in study["trials"]:
        values = objective_values(study, trial["values"])
        best = max(best, trial["values"][0])
        objectives = (values.get("val"), values.get("val_shift"))
        yield study["name"], trial["number"], trial["source"], *objectives, best


def _pareto(study: Model) -> Iterator[Cells]:
    if len(study["recipe"]["objectives"]) < 2:
        return
    front = {point["number"] for point in study["front"]}
    for trial in study["trials"]:
        values = objective_values(study, trial["values"])
        on_front = "true" if trial["number"] in front else "false"
        yield study["name"], trial["number"], values["val"], values["val_shift"], on_front


def _random_soups(evaluation: Manifest) -> Iterator[Cells]:
    for row in evaluation.get("random_soups", {}).get("rows", []):
        where = (row["model"], row["place"], row["pool"], row["size"])
        yield *where, row["mean"], row["sd"], row["ri"]


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


def _soup_size(data: Mapping[str, Any]) -> Sheet:
    rows = [
        (place, size, *values)
        for place, curve in data["curves"].items()
        for size, values in enumerate(
            zip(curve["mean"], curve["low"], curve["high"], strict=True), start=1
        )
    ]
    return Sheet(("place", "size", data["metric"], "low", "high"), rows)


def _contributions(data: Mapping[str, Any]) -> Sheet:
    rows = [
        (
            group["name"],
            row["ingredient"],
            place,
            row["shapley"][place],
            row["error"][place],
            row["change"][place],
        )
        for group in data["groups"]
        for row in group["rows"]
        for place in data["places"]
    ]
    header = ("soup", "ingredient", "place", f"shapley_{data['metric']}", "error", "without_it")
    return Sheet(header, rows)
