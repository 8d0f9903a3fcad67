"""The files of the last two stages, written from the manifests: metrics, plots and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from stockpot.atomic_files import write_text
from stockpot.manifests import read_manifest
from stockpot.planning import Plan
from stockpot.reporting import Results, results_table, write_csv_files, write_report
from stockpot.reporting.estimates import Estimate
from stockpot.reporting.results import best_ingredient, main_models


def load_results(root: Path) -> Results:
    """Read the manifests that the report is made of.

    Raises:
        InputError: a stage has not run.
    """
    return Results(
        **{name: read_manifest(root, name) for name in ("base", "sweep", "soups", "tune")},
        evaluation=read_manifest(root, "evaluate"),
    )


def write_plot_files(root: Path, evaluation: dict[str, Any]) -> list[Path]:
    """Write the CSV files of the plots and results/metrics.json; return them."""
    manifests = {name: read_manifest(root, name) for name in ("base", "sweep", "soups", "tune")}
    results = Results(**manifests, evaluation=evaluation)
    best = best_ingredient(evaluation)["name"]
    metrics = {
        "best ingredient" if model["name"] == best else model["name"]: model["metrics"]
        for model in main_models(evaluation)
    }
    path = root / "results" / "metrics.json"
    write_text(path, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return [path, *write_csv_files(root / "results" / "plots", results)]


def write_report_file(plan: Plan) -> Path:
    """Write results/report.html and return it."""
    path = plan.project.results / "report.html"
    write_report(
        path,
        load_results(plan.project.root),
        plan.experiment.model_dump(mode="json"),
        commands=("stockpot run", "dvc repro", "stockpot status", "stockpot ui"),
    )
    return path


def table_columns(evaluation: dict[str, Any]) -> dict[str, list[str | float | None]]:
    """Return the table of results as columns, for MLflow and Prefect; scores in percent."""
    rows = results_table(evaluation)
    return {
        "model": [row.name for row in rows],
        "val": [_percent(row.val, "value") for row in rows],
        "test": [_percent(row.test, "value") for row in rows],
        "mean shift": [_percent(row.shift, "value") for row in rows],
        "shift, minus best": [_percent(row.shift_difference, "value") for row in rows],
        "from": [_percent(row.shift_difference, "low") for row in rows],
        "to": [_percent(row.shift_difference, "high") for row in rows],
        "models a prediction": [row.num_models for row in rows],
    }


def _percent(estimate: Estimate | None, part: Literal["value", "low", "high"]) -> float | None:
    return None if estimate is None else round(100 * getattr(estimate, part), 2)
