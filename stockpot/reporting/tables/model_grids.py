"""The report's tables of models: ingredients, recipes, coefficients, files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stockpot.ingredients.finetuning.used_techniques import with_common_names
from stockpot.reporting.results import ModelEntry, Results, models_of, objective_values, unit_of
from stockpot.reporting.tables import cells
from stockpot.reporting.tables.cells import Cell, Grid, grid
from stockpot.reporting.words.estimates import short_text, typeset
from stockpot.reporting.words.objectives import objective_label, objective_unit
from stockpot.reporting.words.recipes import used

Columns = dict[str, Callable[[ModelEntry], Cell]]

_DIGEST = "SHA-256, first digits"


def ingredients_grid(results: Results) -> Grid:
    """Build the table of ingredients: hyperparameters, val scores, and test scores."""
    evaluation, metric = results.evaluation, results.evaluation["metric"]
    ingredients, unit = results.sweep["ingredients"], unit_of(evaluation)
    trained = [model for model in ingredients if not {"imported", "rounds"} & model.keys()]
    completed = with_common_names([model["hyperparameters"] for model in trained])
    # An imported model may have used techniques that its settings do not name.
    described = {model["name"]: _settings_of(model) for model in ingredients} | {
        model["name"]: values for model, values in zip(trained, completed, strict=True)
    }
    hyperparameters = _names_in(described.values())
    scores = {model["name"]: model["metrics"] for model in models_of(evaluation, "ingredient")}
    for model in ingredients:
        scores[model["name"]] = scores.get(model["name"], {}) | model["scores"]
    names = {
        "val": f"val/{metric}",
        "val shifts": f"val_shift/mean/{metric}",
        "test": f"test/{metric}",
        "mean shift": f"shift/mean/{metric}",
    }
    known = _names_in(scores.values())
    names = {label: name for label, name in names.items() if name in known}
    rows = [
        [
            cells.header(model["name"]),
            *(cells.setting(described[model["name"]].get(name)) for name in hyperparameters),
            *(cells.number(scores[model["name"]].get(name), unit.score) for name in names.values()),
        ]
        for model in ingredients
    ]
    labels = [name.replace("_", " ") for name in hyperparameters]
    best = frozenset({evaluation["best_ingredient"]})
    return Grid(["ingredient", *labels, *names], rows, best)


def _settings_of(ingredient: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of an ingredient; in rounds, rule and rounds replace epochs."""
    settings: dict[str, Any] = ingredient["hyperparameters"]
    if (rounds := ingredient.get("rounds")) is None:
        return settings
    others = {name: value for name, value in settings.items() if name != "epochs"}
    return others | {"rule": rounds["rule"], "rounds": rounds["rounds"]}


def imported_grid(results: Results) -> Grid:
    """Build the table of imported models: source, file digest, and conversions that were made."""
    columns: Columns = {
        "model": lambda model: cells.header(model["name"]),
        "source": lambda model: Cell(model["source"]),
        _DIGEST: lambda model: Cell(model["imported"]["digest"][:16]),
        "notes": lambda model: Cell("; ".join(model["imported"]["notes"]) or "-"),
    }
    models = [results.base["base"], *results.sweep["ingredients"]]
    return grid(columns, [model for model in models if "imported" in model])


def failed_grid(results: Results) -> Grid:
    """Build the table of failed ingredients, each with its reason."""
    columns: Columns = {
        "ingredient": lambda model: Cell(model["name"]),
        "reason": lambda model: Cell(model["reason"]),
        "hyperparameters": lambda model: Cell(short_text(model["hyperparameters"])),
    }
    return grid(columns, results.sweep["failed"])


def coefficients_grid(results: Results) -> Grid:
    """Build the matrix of coefficients: one row per ingredient, one column per soup."""
    soups = results.merged
    merged = _names_in(soup["coefficients"] for soup in soups)
    known = [model["name"] for model in results.sweep["ingredients"]]
    rows = [
        [cells.header(name), *(_coefficient(soup["coefficients"], name) for soup in soups)]
        for name in dict.fromkeys([*known, *merged])
        if name in merged
    ]
    return Grid(["ingredient", *(soup["name"] for soup in soups)], rows)


def recipes_grid(results: Results) -> Grid:
    """Build the table of recipes: how each soup was made."""
    columns: Columns = {
        "soup": lambda soup: cells.header(soup["name"]),
        "kind": lambda soup: Cell(soup["kind"]),
        "recipe": lambda soup: Cell(
            short_text({name: value for name, value in soup["recipe"].items() if name != "name"})
        ),
        "ingredients": lambda soup: Cell(_size_words(soup), sort=len(used(soup))),
    }
    return grid(columns, results.merged)


def front_grid(study: ModelEntry, results: Results) -> Grid:
    """Build the table of a Pareto front: the trade-offs that could have been chosen."""
    metric = results.unit.metric

    def column(objective: str) -> Callable[[ModelEntry], Cell]:
        unit = objective_unit(objective, results)
        return lambda point: cells.number(
            objective_values(study, point["values"])[objective], unit.score
        )

    def coefficients(point: ModelEntry) -> Cell:
        largest = sorted(point["coefficients"].items(), key=lambda item: -abs(item[1]))
        shown = [f"{name} {value:.3f}" for name, value in largest if f"{value:.3f}" != "0.000"]
        return Cell(", ".join(shown))

    columns: Columns = {
        "trial": lambda point: Cell(str(point["number"])),
        **{objective_label(one, metric): column(one) for one in study["recipe"]["objectives"]},
        "coefficients, largest first": coefficients,
    }
    if any("merge" in point for point in study["front"]):
        columns["method"] = lambda point: Cell(
            short_text({n: v for n, v in point["merge"].items() if n in ("method", "options")})
        )
    return grid(columns, study["front"])


def best_recipe_grid(results: Results, soup: ModelEntry) -> Grid:
    """Build the table of the ingredients of one soup: coefficients and files."""
    known = {model["name"]: model for model in results.sweep["ingredients"]}
    missing = {"digest": "-", "path": "-"}
    columns: dict[str, Callable[[tuple[str, float]], Cell]] = {
        "ingredient": lambda item: cells.header(item[0]),
        "coefficient": lambda item: cells.number(item[1], lambda value: f"{value:.4f}"),
        _DIGEST: lambda item: Cell(known.get(item[0], missing)["digest"][:16]),
        "file": lambda item: Cell(known.get(item[0], missing)["path"]),
    }
    return grid(columns, used(soup).items())


def checks_grid(results: Results) -> Grid | None:
    """Build the table of the checks before merging; None without checks.

    It has one row per ingredient and one column per check, with the measured value.
    """
    checks = [c for c in results.precheck.get("checks", []) if c["ingredient"] is not None]
    if not checks:
        return None
    found = {(check["ingredient"], check["name"]): check for check in checks}
    limits = {check["name"]: check["limit"] for check in checks}
    ingredients = dict.fromkeys(check["ingredient"] for check in checks)
    rows = [
        [cells.header(name), *(_check(found.get((name, check))) for check in limits)]
        for name in ingredients
    ]
    columns = [f"{name} (limit {limit:g})" if limit else name for name, limit in limits.items()]
    return Grid(["ingredient", *columns], rows)


def digests_grid(results: Results, runs: Mapping[str, str]) -> Grid:
    """Build the table of the files and MLflow runs that the numbers belong to.

    Args:
        results: the run.
        runs: MLflow's run id by model.
    """
    models = [results.base["base"], *results.sweep["ingredients"], *results.merged]
    ensembles = [
        {**model, **model["cost"], "digest": "see its members", "path": "no file"}
        for model in models_of(results.evaluation, "ensemble", "repeats")
    ]
    columns: Columns = {
        "model": lambda model: cells.header(model["name"]),
        "SHA-256": lambda model: Cell(model["digest"]),
        "MLflow run": lambda model: Cell(runs.get(model["name"], "-")),
        "file": lambda model: Cell(model["path"]),
        "bytes": lambda model: cells.number(model["bytes"], "{:,}".format),
        "parameters": lambda model: cells.number(model["num_params"], "{:,}".format),
    }
    return grid(columns, [*models, *ensembles])


def _names_in(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return all keys without duplicates, in the order of first appearance."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _check(check: Mapping[str, Any] | None) -> Cell:
    if check is None:
        return Cell("-")
    value = check["value"]
    if not check["passed"]:
        return Cell("not passed", check["detail"], value, "worse")
    return Cell(short_text(value) if value else "ok", sort=value)


def _coefficient(coefficients: Mapping[str, float], ingredient: str) -> Cell:
    if ingredient not in coefficients:
        return Cell("-", sort=0.0)
    value = coefficients[ingredient]
    largest = max(abs(coefficient) for coefficient in coefficients.values())
    share = round(100 * abs(value) / largest) if largest else 0
    return Cell(typeset(f"{value:.3f}"), sort=value, share=share)


def _size_words(soup: ModelEntry) -> str:
    tried = f" of {len(soup['steps'])} tried" if soup.get("steps") else ""
    return f"{len(used(soup))}{tried}"
