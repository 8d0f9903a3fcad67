"""Logging of the manifests in results/: records of models, and a finished experiment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from stockpot.tracking.records import Dataset, ModelRecord, Scalar, flatten
from stockpot.tracking.tracker import Tracker

_MAX_ROWS = 100  # of a note; MLflow cuts a text of more than 8000 characters
_PAPER = 'style="background: #fff; color: #20242b"'  # an image has no page to take colours from


def record_from_manifest(
    model: Mapping[str, Any],
    *,
    kind: str = "ingredient",
    keys: Mapping[str, str],
    datasets: Sequence[Dataset] = (),
    seconds: float = 0.0,
) -> ModelRecord:
    """Build the record of a model in base.json, sweep.json, soups.json or tune.json.

    Args:
        model: entry of the manifest.
        kind: kind of an entry of `failed`, which does not name it.
        keys: name of a model -> its content key: of the base, under `base`, for an ingredient;
            of what an aligned one was made from, under `first` and `imported`; of all candidate
            ingredients for a soup.
        datasets: the data that the scores were measured on.
        seconds: duration of the work, which is not in a manifest.

    Raises:
        KeyError: the entry, or `keys`, is incomplete.
    """
    kind = model.get("kind", kind)
    coefficients = dict(sorted(model.get("coefficients", {}).items()))
    used = {name: value for name, value in coefficients.items() if value != 0}
    parents = keys if "imported" in keys else ["base"]
    failed = "reason" in model
    metrics = {}
    if not failed:
        costs = {"cost/bytes": model["bytes"], "cost/num_params": model["num_params"]}
        density = {"density": model["density"]} if "density" in model else {}
        metrics = {**model["scores"], **costs, **density}
    return ModelRecord(
        name=model["name"],
        kind=kind,
        key=model["key"],
        digest=model.get("digest", ""),
        path=model.get("path", ""),
        params=_params(model, coefficients, len(used), keys),
        metrics=metrics,
        curves=_curves(model),
        tags=_tags(model),
        inputs=tuple(keys[name] for name in (parents if kind == "ingredient" else used)),
        datasets=tuple(datasets),
        status="FAILED" if failed else "FINISHED",
        reason=model.get("reason", ""),
        note=f"**Failed:** {model['reason']}" if failed else _note(used, keys),
        seconds=seconds,
    )


def _tags(model: Mapping[str, Any]) -> dict[str, str]:
    """Name a soup's recipe, or the file that a model was imported from and that file's digest."""
    tags = {"stockpot.recipe": model["recipe"]["name"]} if "recipe" in model else {}
    if imported := model.get("imported"):
        tags["stockpot.source"] = model["source"]
        tags["stockpot.source_digest"] = imported["digest"]
    return tags


def _params(
    model: Mapping[str, Any],
    coefficients: Mapping[str, float],
    num_used: int,
    keys: Mapping[str, str],
) -> dict[str, Scalar]:
    """Collect hyperparameters or recipe, then one coefficient per candidate ingredient.

    Rejected candidates have 0: the UI's parallel coordinates omit a run that lacks a parameter.
    """
    recipe = {name: value for name, value in model.get("recipe", {}).items() if name != "name"}
    named = {}
    if coefficients:
        recipe["num_ingredients"] = num_used
        candidates = {**dict.fromkeys(sorted(keys.keys() - {"base"}), 0.0), **coefficients}
        named = {f"coefficient/{name}": value for name, value in candidates.items()}
    in_rounds = {n: v for n, v in model.get("rounds", {}).items() if not n.startswith("shard_")}
    aligned = {"aligned_by": model["aligned"]["by"]} if "aligned" in model else {}
    flat = flatten({**model.get("hyperparameters", {}), "rounds": in_rounds, **aligned, **recipe})
    leaves = {name: value for name, value in flat.items() if value is not None and value != {}}
    return {name: _scalar(value) for name, value in leaves.items()} | named


def _scalar(value: Any) -> Scalar:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _curves(model: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the score after each round, greedy step (the best), or trial of a study (the best)."""
    if history := model.get("history"):
        numbers, scores = zip(*history, strict=True)
        return {"rounds/participants": numbers, "rounds/score": scores}
    if steps := model.get("steps"):
        return {"greedy/best_score": tuple(step["best"] for step in steps)}
    trials = model.get("trials", [])
    objectives = model.get("recipe", {}).get("objectives", []) if trials else []
    return {
        f"tuning/best_{objective}": tuple(
            accumulate((t["values"][n] for t in trials), min if objective == "loss" else max)
        )
        for n, objective in enumerate(objectives)
    }


def _note(used: Mapping[str, float], keys: Mapping[str, str]) -> str:
    """List the ingredients of a soup in Markdown."""
    if not used:
        return ""
    largest = sorted(used.items(), key=lambda item: (-item[1], item[0]))
    rows = [f"| {name} | {value:.4g} |" for name, value in largest[:_MAX_ROWS]]
    if len(largest) > _MAX_ROWS:
        rows.append(f"| {len(largest) - _MAX_ROWS} more | |")
    head = f"Merged from {len(used)} of {len(keys.keys() - {'base'})} ingredients."
    return "\n".join([head, "", "| ingredient | coefficient |", "|---|---|", *rows])


def log_results(tracker: Tracker, results: Path, best: str, figures: Mapping[str, str]) -> None:
    """Log a finished experiment to the parent run.

    Metrics are those of the best soup, under their own names, so that a table of parent runs
    compares experiments. Curves are the scores of the ingredients, in order. Artifacts are the
    manifests (`results/...`) and the figures (`plots/...`).

    Args:
        tracker: a tracker whose run has started.
        results: folder of the manifests, with that of the evaluation.
        best: name of the best soup on val.
        figures: title -> SVG element.
    """
    for path in sorted(results.rglob("*.json")):
        name = f"results/{path.relative_to(results).as_posix()}"
        tracker.log_text(name, path.read_text(encoding="utf-8"))
    for title, svg in figures.items():
        file_name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        tracker.log_text(f"plots/{file_name}.svg", standalone_svg(svg))
    evaluation = json.loads((results / "evaluation.json").read_text(encoding="utf-8"))
    tracker.log_parent_metrics(best_metrics(evaluation, best), ingredient_curves(evaluation))
    tracker.log_parent_tags({"stockpot.best_soup": best})


def best_metrics(evaluation: Mapping[str, Any], best: str) -> dict[str, float]:
    """Return the metrics of the best soup on val, on test and averaged over shifts.

    MLflow draws a chart per metric, so only the first metric has its interval's ends.
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


def standalone_svg(svg: str) -> str:
    """Give an SVG element a size and a white background, as a file needs them."""
    opening = r'<svg ([^>]*viewBox="0 0 ([\d.]+) ([\d.]+)")'
    return re.sub(opening, rf'<svg width="\2" height="\3" {_PAPER} \1', svg, count=1)
