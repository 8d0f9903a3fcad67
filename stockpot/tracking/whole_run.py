"""What is logged of a pipeline run as a whole, so that MLflow's UI alone shows what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stockpot.tracking.tracker import Tracker

_PAPER = 'style="background: #fff; color: #20242b"'  # an image has no page to take colours from


def log_results(tracker: Tracker, results: Path, best: str, figures: Mapping[str, str]) -> None:
    """Put a finished experiment on the parent run.

    Metrics are those of the best soup, under their own names, so that a table of parent runs
    compares experiments. Curves are the scores of ingredients, in order. Artifacts are the
    manifests (`results/...`) and the figures (`plots/...`).

    Args:
        tracker: whose run has started.
        results: the folder of manifests, with that of the evaluation.
        best: name of the best soup on val.
        figures: title -> SVG element.
    """
    manifests = sorted(results.rglob("*.json"))
    for path in manifests:
        name = f"results/{path.relative_to(results).as_posix()}"
        tracker.log_text(name, path.read_text(encoding="utf-8"))
    for title, svg in figures.items():
        tracker.log_text(f"plots/{_file_name(title)}.svg", standing_alone(svg))
    evaluation = json.loads((results / "evaluation.json").read_text(encoding="utf-8"))
    tracker.log_parent_metrics(best_metrics(evaluation, best), ingredient_curves(evaluation))
    tracker.log_parent_tags({"stockpot.best_soup": best})


def best_metrics(evaluation: Mapping[str, Any], best: str) -> dict[str, float]:
    """Return the metrics of the best soup: on val, on test and over all shifts, not of each one.

    MLflow draws a chart of each, so the ends of intervals are those of the first metric alone.
    """
    model = next(model for model in evaluation["models"] if model["name"] == best)
    other_end = re.compile(rf"(?<!/{re.escape(evaluation['metric'])})_(low|high)$")
    single_shift = re.compile(r"(difference/)?(val_)?shift/(?!mean/)")
    return {
        name: value
        for name, value in model["metrics"].items()
        if value is not None and not single_shift.match(name) and not other_end.search(name)
    }


def ingredient_curves(evaluation: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the first metric of the ingredients, in order, on val, test and over the shifts."""
    metrics = [m["metrics"] for m in evaluation["models"] if m["kind"] == "ingredient"]
    names = [f"{place}/{evaluation['metric']}" for place in ("val", "test", "shift/mean")]
    return {
        f"ingredients/{name}": [own[name] for own in metrics]
        for name in names
        if all(name in own for own in metrics)
    }


def standing_alone(svg: str) -> str:
    """Return an SVG element as a file: with a size, on white paper."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if box is None:
        return svg
    width, height = box.groups()
    return svg.replace("<svg ", f'<svg width="{width}" height="{height}" {_PAPER} ', 1)


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
