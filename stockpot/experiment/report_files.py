"""Files that are written from the manifests: metrics, data of plots, report, model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from stockpot.experiment.jobs.diagnosing import read_finding_files
from stockpot.experiment.jobs.judging import measured_latency
from stockpot.experiment.plan import Plan
from stockpot.experiment.stages import MODEL_STAGES
from stockpot.reporting.csv_files import write_csv_files
from stockpot.reporting.figures import ReportFigures
from stockpot.reporting.html import render_report
from stockpot.reporting.model_card import model_card
from stockpot.reporting.results import Results, best_ingredient, best_soup, models_of, unit_of
from stockpot.reporting.tables.results_table import results_table
from stockpot.reporting.words.estimates import Estimate
from stockpot.storage.atomic_files import write_json, write_text
from stockpot.storage.manifests import read_manifest


def load_results(root: Path) -> Results:
    """Read the manifests and findings for the report.

    Raises:
        InputError: a stage has not run.
    """
    return Results(
        **{name: read_manifest(root, name) for name in MODEL_STAGES},
        evaluation=read_manifest(root, "evaluate"),
        diagnostics=read_finding_files(root),
    )


def write_plot_files(root: Path, evaluation: dict[str, Any]) -> list[Path]:
    """Write the CSV files of the plots and results/metrics.json; return them."""
    manifests = {name: read_manifest(root, name) for name in MODEL_STAGES}
    results = Results(**manifests, evaluation=evaluation)
    path = root / "results" / "metrics.json"
    write_json(path, compared_metrics(evaluation))
    return [path, *write_csv_files(root / "results" / "plots", results)]


def compared_metrics(evaluation: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the metrics by which experiments are compared, for `dvc metrics`.

    Fractions are not converted to percent.

    Args:
        evaluation: its manifest.

    Returns:
        By model: the first metric on val, on test and over the test shifts, for the best
        ingredient, all soups and the best soup on val. The best soup also has its difference to
        the best ingredient and its calibration on test.
    """
    metric = evaluation["metric"]
    scores = [f"{place}/{metric}" for place in ("val", "test", "shift/mean")]
    more = [f"difference/{name}" for name in scores[1:]] + ["test/nll", "test/ece"]
    metrics = {"best ingredient": _select(best_ingredient(evaluation), scores)}
    metrics |= {
        model["name"]: _select(model, scores) for model in models_of(evaluation, "soup", "tuned")
    }
    best = best_soup(evaluation)
    return metrics if best is None else metrics | {"best soup": _select(best, [*scores, *more])}


def _select(model: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    return {name: model["metrics"][name] for name in names if name in model["metrics"]}


def write_report_files(plan: Plan, figures: ReportFigures, runs: Mapping[str, str]) -> list[Path]:
    """Write results/report.html, and results/model_card.md of the soup with the best val score.

    Args:
        plan: of the experiment, whose stages before the report are done.
        figures: of the report.
        runs: MLflow's run id by model.

    Returns:
        The report, then the model card.
    """
    results, folder = load_results(plan.project.root), plan.project.results
    experiment = plan.experiment.model_dump(mode="json", exclude={"store"})  # another per machine
    report, card = folder / "report.html", folder / "model_card.md"
    page = render_report(
        results,
        experiment,
        figures=figures,
        commands=("stockpot run", "dvc repro", "stockpot status", "stockpot ui"),
        runs=runs,
        latency_ms=measured_latency(plan.project.root),
    )
    write_text(report, page)
    write_text(card, model_card(results, experiment, runs=runs))
    return [report, card]


def table_columns(evaluation: dict[str, Any]) -> dict[str, list[str | float | None]]:
    """Return the table of results as columns, for MLflow and Prefect; fractions in percent."""
    rows, unit = results_table(evaluation), unit_of(evaluation)

    def rounded(estimate: Estimate | None, part: Literal["value", "low", "high"]) -> float | None:
        if estimate is None:
            return None
        return round(unit.factor * float(getattr(estimate, part)), unit.decimals + 1)

    shifted = [row.against_shift.difference if row.against_shift else None for row in rows]
    return {
        "model": [row.name for row in rows],
        "val": [rounded(row.val, "value") for row in rows],
        "test": [rounded(row.test, "value") for row in rows],
        "mean shift": [rounded(row.shift, "value") for row in rows],
        "shift, minus best": [rounded(difference, "value") for difference in shifted],
        "from": [rounded(difference, "low") for difference in shifted],
        "to": [rounded(difference, "high") for difference in shifted],
        "p, Holm": [row.against_shift.p if row.against_shift else None for row in rows],
        "models a prediction": [row.num_models for row in rows],
    }
