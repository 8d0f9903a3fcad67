"""The files of the last stages, written from the manifests: metrics, plots, report, model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from stockpot.atomic_files import write_text
from stockpot.finding_files import read_finding_files
from stockpot.manifests import read_manifest
from stockpot.planning import Plan
from stockpot.reporting import (
    Results,
    model_card,
    render_report,
    results_table,
    write_csv_files,
)
from stockpot.reporting.estimates import Estimate
from stockpot.reporting.results import best_ingredient, main_models

_MADE = ("base", "sweep", "soups", "tune")


def load_results(root: Path) -> Results:
    """Read the manifests and the findings that the report is made of.

    Raises:
        InputError: a stage has not run.
    """
    return Results(
        **{name: read_manifest(root, name) for name in _MADE},
        evaluation=read_manifest(root, "evaluate"),
        diagnostics=read_finding_files(root),
    )


def write_plot_files(root: Path, evaluation: dict[str, Any]) -> list[Path]:
    """Write the CSV files of the plots and results/metrics.json; return them."""
    manifests = {name: read_manifest(root, name) for name in _MADE}
    results = Results(**manifests, evaluation=evaluation)
    best = best_ingredient(evaluation)["name"]
    metrics = {
        "best ingredient" if model["name"] == best else model["name"]: model["metrics"]
        for model in main_models(evaluation)
    }
    path = root / "results" / "metrics.json"
    write_text(path, json.dumps(metrics, indent=2, sort_keys=True) + "\n")
    return [path, *write_csv_files(root / "results" / "plots", results)]


def write_report_file(
    plan: Plan, *, runs: Mapping[str, str] | None = None, latency_ms: float | None = None
) -> Path:
    """Write results/report.html and return it.

    Args:
        plan: of the experiment, all of whose stages before the report are done.
        runs: MLflow's run id by model.
        latency_ms: measured, of one model and a batch of 32.
    """
    path = plan.project.results / "report.html"
    page = render_report(
        load_results(plan.project.root),
        plan.experiment.model_dump(mode="json"),
        commands=("stockpot run", "dvc repro", "stockpot status", "stockpot ui"),
        runs=runs,
        latency_ms=latency_ms,
    )
    write_text(path, page)
    return path


def write_model_card_file(plan: Plan, *, runs: Mapping[str, str] | None = None) -> Path:
    """Write results/model_card.md, of the soup with the best val score, and return it.

    Args:
        plan: of the experiment, all of whose stages before the report are done.
        runs: MLflow's run id by model.
    """
    path = plan.project.results / "model_card.md"
    experiment = plan.experiment.model_dump(mode="json")
    write_text(path, model_card(load_results(plan.project.root), experiment, runs=runs or {}))
    return path


def table_columns(evaluation: dict[str, Any]) -> dict[str, list[str | float | None]]:
    """Return the table of results as columns, for MLflow and Prefect; scores in percent."""
    rows = results_table(evaluation)
    shifted = [row.against_shift.difference if row.against_shift else None for row in rows]
    return {
        "model": [row.name for row in rows],
        "val": [_percent(row.val, "value") for row in rows],
        "test": [_percent(row.test, "value") for row in rows],
        "mean shift": [_percent(row.shift, "value") for row in rows],
        "shift, minus best": [_percent(difference, "value") for difference in shifted],
        "from": [_percent(difference, "low") for difference in shifted],
        "to": [_percent(difference, "high") for difference in shifted],
        "p, Holm": [row.against_shift.p if row.against_shift else None for row in rows],
        "models a prediction": [row.num_models for row in rows],
    }


def _percent(estimate: Estimate | None, part: Literal["value", "low", "high"]) -> float | None:
    return None if estimate is None else round(100 * getattr(estimate, part), 2)
