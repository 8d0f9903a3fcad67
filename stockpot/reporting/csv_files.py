"""The numbers behind the plots as CSV files, for `dvc plots` and for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from stockpot.atomic_files import write_text
from stockpot.reporting.results import Manifest, Model, Results, objective_values

Cell = str | int | float | None  # None is written as an empty cell

_HEADERS = {
    "id_vs_shift.csv": ("model", "kind", "test_accuracy", "shift_accuracy"),
    "shifts.csv": ("model", "kind", "shift", "accuracy", "low", "high"),
    "greedy.csv": ("soup", "step", "ingredient", "score", "accepted"),
    "tuning.csv": ("study", "trial", "source", "val", "val_shift", "best"),
    "pareto.csv": ("study", "trial", "val", "val_shift", "on_front"),
}


def write_csv_files(folder: Path, results: Results) -> list[Path]:
    """Write all CSV files of a run; one without rows has its header alone.

    Args:
        folder: where they go; made if it is missing.
        results: the manifests of the run.

    Returns:
        The files written, in a fixed order.

    Raises:
        OSError: a file cannot be written; those before it are whole.
    """
    studies = results.tune["tuned"]
    contents: dict[str, list[Sequence[Cell]]] = {
        "id_vs_shift.csv": list(_id_vs_shift(results.evaluation)),
        "shifts.csv": list(_shifts(results.evaluation)),
        "greedy.csv": [row for soup in results.soups["soups"] for row in _steps(soup)],
        "tuning.csv": [row for study in studies for row in _trials(study)],
        "pareto.csv": [row for study in studies for row in _pareto(study)],
    }
    for name, rows in contents.items():
        write_text(folder / name, _as_csv(_HEADERS[name], rows))
    return [folder / name for name in contents]


def _as_csv(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _id_vs_shift(evaluation: Manifest) -> Iterator[Sequence[Cell]]:
    metric = evaluation["metric"]
    for model in evaluation["models"]:
        scores = model["metrics"]
        shift = scores.get(f"shift/mean/{metric}")
        yield model["name"], model["kind"], scores[f"test/{metric}"], shift


def _shifts(evaluation: Manifest) -> Iterator[Sequence[Cell]]:
    for model in evaluation["models"]:
        for shift in evaluation["test_shifts"]:
            name = f"shift/{shift}/{evaluation['metric']}"
            interval = (model["metrics"].get(f"{name}_{end}") for end in ("low", "high"))
            yield model["name"], model["kind"], shift, model["metrics"][name], *interval


def _steps(soup: Model) -> Iterator[Sequence[Cell]]:
    for number, step in enumerate(soup["steps"], start=1):
        accepted = "true" if step["accepted"] else "false"
        yield soup["name"], number, step["ingredient"], step["score"], accepted


def _trials(study: Model) -> Iterator[Sequence[Cell]]:
    """Yield the trials with the best value so far of the study's first objective."""
    best = float("-inf")
    for trial in study["trials"]:
        values = objective_values(study, trial["values"])
        best = max(best, trial["values"][0])
        objectives = (values.get("val"), values.get("val_shift"))
        yield study["name"], trial["number"], trial["source"], *objectives, best


def _pareto(study: Model) -> Iterator[Sequence[Cell]]:
    if len(study["recipe"]["objectives"]) < 2:
        return
    front = {point["number"] for point in study["front"]}
    for trial in study["trials"]:
        values = objective_values(study, trial["values"])
        on_front = "true" if trial["number"] in front else "false"
        yield study["name"], trial["number"], values["val"], values["val_shift"], on_front
