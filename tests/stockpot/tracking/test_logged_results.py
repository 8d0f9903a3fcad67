"""Logging a finished experiment to the parent run."""

from __future__ import annotations

import json
from pathlib import Path

from mlflow.tracking.client import MlflowClient
from parent_runs import parent_run_id

from stockpot.tracking.manifests import best_metrics, ingredient_curves, log_results, standalone_svg
from stockpot.tracking.tracker import Tracker

EVALUATION = {
    "metric": "accuracy",
    "models": [
        {"name": "a", "kind": "ingredient", "metrics": {"val/accuracy": 0.5, "test/accuracy": 0.4}},
        {"name": "b", "kind": "ingredient", "metrics": {"val/accuracy": 0.7, "test/accuracy": 0.6}},
        {
            "name": "greedy",
            "kind": "soup",
            "metrics": {
                "val/accuracy": 0.8,
                "val/accuracy_low": 0.7,
                "test/nll": 0.3,
                "test/nll_high": 0.4,
                "test/auroc": None,
                "shift/noise/accuracy": 0.2,
                "shift/mean/accuracy": 0.3,
                "val_shift/blur/accuracy": 0.2,
                "difference/shift/mean/accuracy": 0.05,
                "temperature": 1.5,
            },
        },
    ],
}
SVG = '<svg viewBox="0 0 40 20" xmlns="http://www.w3.org/2000/svg"><path d="M 0 0" /></svg>'


def test_best_metrics_omit_single_shifts_and_ends_of_secondary_intervals() -> None:
    assert best_metrics(EVALUATION, "greedy") == {
        "val/accuracy": 0.8,
        "val/accuracy_low": 0.7,
        "test/nll": 0.3,
        "shift/mean/accuracy": 0.3,
        "difference/shift/mean/accuracy": 0.05,
        "temperature": 1.5,
    }


def test_curves_are_the_scores_of_ingredients_in_order() -> None:
    assert ingredient_curves(EVALUATION) == {
        "ingredients/val/accuracy": [0.5, 0.7],
        "ingredients/test/accuracy": [0.4, 0.6],
    }


def test_standalone_svg_has_a_size_and_a_background() -> None:
    alone = standalone_svg(SVG)

    assert alone.startswith('<svg width="40" height="20" style="background: #fff; ')
    assert standalone_svg("<svg />") == "<svg />"


def test_results_are_metrics_curves_manifests_and_figures_of_the_parent_run(
    tracker: Tracker, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "diagnostics").mkdir()
    (tmp_path / "evaluation.json").write_text(json.dumps(EVALUATION))
    (tmp_path / "diagnostics" / "barriers.json").write_text("{}")

    log_results(tracker, tmp_path, "greedy", {"Score by shift": SVG})

    run_id = parent_run_id(tracker)
    run = client.get_run(run_id)
    history = client.get_metric_history(run_id, "ingredients/test/accuracy")
    assert run.data.metrics["val/accuracy"] == 0.8
    assert run.data.tags["stockpot.best_soup"] == "greedy"
    assert [(point.step, point.value) for point in history] == [(0, 0.4), (1, 0.6)]
    listed = [
        file.path
        for folder in ("results", "results/diagnostics", "plots")
        for file in client.list_artifacts(run_id, folder)
        if not file.is_dir
    ]
    assert listed == [
        "results/evaluation.json",
        "results/diagnostics/barriers.json",
        "plots/score-by-shift.svg",
    ]
