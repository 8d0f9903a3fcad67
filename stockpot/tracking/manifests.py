"""Model records from the entries of the manifests, `results/*.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.tracking.records import Dataset, ModelRecord, Scalar

_MAX_ROWS = 100  # of a note; MLflow cuts what has more than 8000 characters


def record_from_manifest(
    model: Mapping[str, Any],
    *,
    kind: str = "ingredient",
    keys: Mapping[str, str],
    datasets: Sequence[Dataset] = (),
    seconds: float = 0.0,
) -> ModelRecord:
    """Make the record of a model of base.json, sweep.json (`failed` too), soups.json or tune.json.

    Args:
        model: the entry.
        kind: for an entry of `failed`, which does not say its kind.
        keys: name of a model -> its content key; for an ingredient the base's, under `base`, for
            a soup those of the ingredients it could be made from.
        datasets: what the scores were measured on.
        seconds: how long the work took; a manifest does not say it.

    Raises:
        KeyError: the entry, or `keys`, lacks something.
    """
    kind = model.get("kind", kind)
    coefficients = model.get("coefficients", {})
    failed = "reason" in model
    return ModelRecord(
        name=model["name"],
        kind=kind,
        key=model["key"],
        digest=model.get("digest", ""),
        path=model.get("path", ""),
        params=_params(model, keys),
        metrics={} if failed else {**model["scores"], **_cost(model)},
        curves=_curves(model),
        tags=_tags(model),
        inputs=_inputs(kind, coefficients, keys),
        datasets=tuple(datasets),
        status="FAILED" if failed else "FINISHED",
        reason=model.get("reason", ""),
        note=_note(model, keys),
        seconds=seconds,
    )


def _tags(model: Mapping[str, Any]) -> dict[str, str]:
    """Name a soup's recipe, or the file that a model was imported from and that file's digest."""
    tags = {"stockpot.recipe": model["recipe"]["name"]} if "recipe" in model else {}
    if imported := model.get("imported"):
        tags["stockpot.source"] = model["source"]
        tags["stockpot.source_digest"] = imported["digest"]
    return tags


def _params(model: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Scalar]:
    """Hyperparameters or recipe by their own names, then one coefficient an ingredient.

    Those that were not taken have 0: the UI's parallel coordinates leave out a run that lacks one.
    """
    recipe = {name: value for name, value in model.get("recipe", {}).items() if name != "name"}
    coefficients = dict(sorted(model.get("coefficients", {}).items()))
    if coefficients:
        recipe["num_ingredients"] = len(_used(coefficients))
        coefficients = {name: 0.0 for name in sorted(keys) if name != "base"} | coefficients
    named = {f"coefficient/{name}": value for name, value in coefficients.items()}
    return _flat({**model.get("hyperparameters", {}), **recipe}) | named


def _flat(values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Give the entries of nested mappings one name each, and join lists; leave out nulls."""
    flat: dict[str, Scalar] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in _flat(value).items()}
        elif isinstance(value, list | tuple):
            flat[name] = ", ".join(map(str, value))
        elif value is not None:
            flat[name] = value
    return flat


def _used(coefficients: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in sorted(coefficients.items()) if value != 0}


def _inputs(
    kind: str, coefficients: Mapping[str, float], keys: Mapping[str, str]
) -> tuple[str, ...]:
    if kind == "ingredient":
        return (keys["base"],)
    return tuple(keys[name] for name in _used(coefficients))


def _cost(model: Mapping[str, Any]) -> dict[str, float]:
    return {"cost/bytes": model["bytes"], "cost/num_params": model["num_params"]}


def _curves(model: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the best score after each greedy step, or after each trial of a study."""
    if steps := model.get("steps"):
        return {"greedy/best_score": tuple(step["best"] for step in steps)}
    curves: dict[str, tuple[float, ...]] = {}
    objectives = model.get("recipe", {}).get("objectives", [])
    for column, objective in enumerate(objectives):
        best: list[float] = []
        for trial in model.get("trials", []):
            best.append(max([*best[-1:], trial["values"][column]]))
        curves[f"tuning/best_{objective}"] = tuple(best)
    return {name: curve for name, curve in curves.items() if curve}


def _note(model: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """Say in Markdown what a soup is made of, or why an ingredient failed."""
    if "reason" in model:
        return f"**Failed:** {model['reason']}"
    used = _used(model.get("coefficients", {}))
    if not used:
        return ""
    largest = sorted(used.items(), key=lambda item: (-item[1], item[0]))
    rows = [f"| {name} | {value:.4g} |" for name, value in largest[:_MAX_ROWS]]
    if len(largest) > _MAX_ROWS:
        rows.append(f"| {len(largest) - _MAX_ROWS} more | |")
    head = f"Merged from {len(used)} of {len(keys.keys() - {'base'})} ingredients."
    return "\n".join([head, "", "| ingredient | coefficient |", "|---|---|", *rows])
