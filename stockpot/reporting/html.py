"""The report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.reporting.figures import ReportFigures, draw_figures
from stockpot.reporting.found_recipes import found_recipes
from stockpot.reporting.pages import page_template
from stockpot.reporting.results import Results
from stockpot.reporting.tables import model_grids, score_grids
from stockpot.reporting.tables.cells import Grid
from stockpot.reporting.tables.phases_grid import phases_grid
from stockpot.reporting.tables.protocol import access_grid, protocol, settings
from stockpot.reporting.words import alerts, verdict
from stockpot.reporting.words.comparisons import star_note
from stockpot.reporting.words.recipes import recipe_sentence, reproduce_command


def render_report(
    results: Results,
    experiment: Mapping[str, Any],
    *,
    figures: ReportFigures | None = None,
    commands: Sequence[str] = (),
    runs: Mapping[str, str] | None = None,
    latency_ms: float | None = None,
) -> str:
    """Return the report of a run as one page; equal arguments give equal text.

    Args:
        results: the manifests of the run.
        experiment: params.yaml as a plain mapping.
        figures: of the report, if they are drawn already.
        commands: shell commands that reproduce the run.
        runs: MLflow's run id by model.
        latency_ms: measured latency of one model and a batch of 32.
    """
    evaluation, figures = results.evaluation, figures or draw_figures(results)
    return page_template("report").render(
        title=experiment.get("track", {}).get("experiment", "stockpot"),
        results=results,
        evaluation=evaluation,
        unit=results.unit,
        headline=verdict.headline(evaluation),
        verdicts=verdict.verdicts(evaluation),
        greedy=verdict.greedy_sentence(evaluation),
        ensemble=verdict.ensemble_sentence(evaluation),
        caveat=verdict.caveat(evaluation),
        alerts=alerts.alerts(results),
        data_warnings=alerts.data_warnings(results),
        precheck_notes=alerts.precheck_notes(results),
        alert_sources=alerts.alert_sources(results),
        star_note=star_note(evaluation),
        plots=figures.scores,
        diagnostics=figures.diagnostics,
        tables=_tables(results, runs or {}, latency_ms),
        fronts=[study for study in results.tune["tuned"] if study["front"]],
        front_grid=lambda study: model_grids.front_grid(study, results),
        best=_best(results, runs or {}),
        found=found_recipes(results),
        protocol=protocol(results, experiment),
        settings=settings(experiment),
        commands=commands,
    )


def _tables(results: Results, runs: Mapping[str, str], latency_ms: float | None) -> dict[str, Any]:
    """Build all tables of the page, by section."""
    evaluation = results.evaluation
    judged = {
        "All comparisons with the best ingredient": score_grids.comparisons_grid(evaluation),
        "Soups against random soups": score_grids.random_soups_grid(evaluation),
        "Effective robustness": score_grids.robustness_grid(evaluation),
        "Conformal prediction sets": score_grids.conformal_grid(evaluation),
        "Inference cost": score_grids.cost_grid(evaluation, latency_ms),
    }
    return {
        "results": score_grids.results_grid(results, latency_ms),
        "metrics": score_grids.metric_grids(evaluation),
        "judged": {title: grid for title, grid in judged.items() if grid.rows},
        "checks": model_grids.checks_grid(results),
        "recipes": model_grids.recipes_grid(results),
        "coefficients": model_grids.coefficients_grid(results),
        "ingredients": model_grids.ingredients_grid(results),
        "phases": phases_grid(results),
        "imported": model_grids.imported_grid(results),
        "failed": model_grids.failed_grid(results),
        "access": access_grid(results),
        "digests": model_grids.digests_grid(results, runs),
    }


def _best(results: Results, runs: Mapping[str, str]) -> dict[str, str | Grid] | None:
    """Return how to rebuild the best soup on val; None without soups."""
    soup = results.best_soup
    if soup is None:
        return None
    return {
        "name": soup["name"],
        "words": recipe_sentence(soup, results.unit),
        "grid": model_grids.best_recipe_grid(results, soup),
        "command": reproduce_command(soup, runs),
    }
