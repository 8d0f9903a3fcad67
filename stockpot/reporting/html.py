"""The report: one self-contained HTML page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.reporting.figures import ReportFigures, draw_figures
from stockpot.reporting.pages import page_template
from stockpot.reporting.results import Results
from stockpot.reporting.tables import model_grids, score_grids
from stockpot.reporting.tables.cells import Grid
from stockpot.reporting.tables.protocol import access_grid, protocol, settings
from stockpot.reporting.tables.results_table import star_note
from stockpot.reporting.words.alerts import alert_sources, alerts, data_warnings, precheck_notes
from stockpot.reporting.words.recipes import recipe_sentence
from stockpot.reporting.words.units import unit_of
from stockpot.reporting.words.verdict import (
    caveat,
    ensemble_sentence,
    greedy_sentence,
    headline,
    verdicts,
)


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
    figures = figures or draw_figures(results)
    return page_template("report").render(
        title=experiment.get("track", {}).get("experiment", "stockpot"),
        results=results,
        evaluation=results.evaluation,
        unit=unit_of(results.evaluation),
        headline=headline(results.evaluation),
        verdicts=verdicts(results.evaluation),
        greedy=greedy_sentence(results.evaluation),
        ensemble=ensemble_sentence(results.evaluation),
        caveat=caveat(results.evaluation),
        alerts=alerts(results),
        data_warnings=data_warnings(results),
        precheck_notes=precheck_notes(results),
        alert_sources=alert_sources(results),
        star_note=star_note(results.evaluation),
        plots=figures.scores,
        diagnostics=figures.diagnostics,
        tables=_tables(results, runs or {}, latency_ms),
        fronts=[study for study in results.tune["tuned"] if study["front"]],
        front_grid=lambda study: model_grids.front_grid(study, unit_of(results.evaluation)),
        best=_best(results, runs or {}),
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
    name = str(soup["name"])
    return {
        "name": name,
        "words": recipe_sentence(soup, unit_of(results.evaluation)),
        "grid": model_grids.best_recipe_grid(results, soup),
        "command": f"stockpot reproduce {shlex.quote(runs.get(name, name))}",
    }
