"""The report's tables of models: ingredients, recipes, coefficients, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stockpot.ingredients.finetuning.hyperparameters import with_common_names
from stockpot.metric_units import Unit
from stockpot.reporting.results import Model, Results, models_of, objective_values
from stockpot.reporting.tables import cells
from stockpot.reporting.tables.cells import Cell, Grid
from stockpot.reporting.words.estimates import plain
from stockpot.reporting.words.units import unit_of


def ingredients_grid(results: Results) -> Grid:
    """Build the table of ingredients: hyperparameters, val scores, and what test said later."""
    evaluation, metric = results.evaluation, results.evaluation["metric"]
    ingredients, unit = results.sweep["ingredients"], unit_of(evaluation)
    trained = [model for model in ingredients if "imported" not in model]
    told = with_common_names([model["hyperparameters"] for model in trained])
    # Of an imported one it is not known that it did without the techniques it does not name.
    described = {model["name"]: model["hyperparameters"] for model in ingredients} | {
        model["name"]: values for model, values in zip(trained, told, strict=True)
    }
    hyperparameters = _names_in(described.values())
    judged = {model["name"]: model["metrics"] for model in models_of(evaluation, "ingredient")}
    chosen_on = {"val": f"val/{metric}", "val shifts": f"val_shift/mean/{metric}"}
    reported = {"test": f"test/{metric}", "mean shift": f"shift/mean/{metric}"}
    scores = _names_in(model["scores"] for model in ingredients)
    chosen_on = {label: name for label, name in chosen_on.items() if name in scores}
    if not evaluation["test_shifts"]:
        del reported["mean shift"]
    rows = [
        [
            cells.header(model["name"]),
            *(cells.setting(described[model["name"]].get(name)) for name in hyperparameters),
            *(cells.value(model["scores"].get(name), unit) for name in chosen_on.values()),
            *(
                cells.value(judged.get(model["name"], {}).get(name), unit)
                for name in reported.values()
            ),
        ]
        for model in ingredients
    ]
    labels = [name.replace("_", " ") for name in hyperparameters]
    columns = ["ingredient", *labels, *chosen_on, *reported]
    return Grid(columns, rows, frozenset({evaluation["best_ingredient"]}))


def imported_grid(results: Results) -> Grid:
    """Build the table of what was imported: from where, which file, and what made it fit."""
    models = [results.base["base"], *results.sweep["ingredients"]]
    rows = [
        [
            cells.header(model["name"]),
            Cell(model["source"]),
            Cell(model["imported"]["digest"][:16]),
            Cell("; ".join(model["imported"]["notes"]) or "-"),
        ]
        for model in models
        if "imported" in model
    ]
    return Grid(["model", "source", "SHA-256 begins", "notes"], rows)


def failed_grid(results: Results) -> Grid:
    """Build the table of ingredients that gave no model, with the reason of each."""
    rows = [
        [Cell(model["name"]), Cell(model["reason"]), Cell(plain(model["hyperparameters"]))]
        for model in results.sweep["failed"]
    ]
    return Grid(["ingredient", "reason", "hyperparameters"], rows)


def coefficients_grid(results: Results) -> Grid:
    """Build the matrix of coefficients: a row an ingredient, a column a soup."""
    soups = results.merged
    used = _names_in(soup["coefficients"] for soup in soups)
    known = [model["name"] for model in results.sweep["ingredients"]]
    ingredients = [name for name in known if name in used]
    ingredients += [name for name in used if name not in known]
    rows = [
        [cells.header(name), *(_coefficient(soup["coefficients"], name) for soup in soups)]
        for name in ingredients
    ]
    return Grid(["ingredient", *(soup["name"] for soup in soups)], rows)


def recipes_grid(results: Results) -> Grid:
    """Build the table of recipes: how each soup was made."""
    rows = [
        [
            cells.header(soup["name"]),
            Cell(soup["kind"]),
            Cell(_recipe_words(soup["recipe"])),
            Cell(_size_words(soup), sort=len(_used(soup))),
        ]
        for soup in results.merged
    ]
    return Grid(["soup", "kind", "recipe", "ingredients"], rows)


def front_grid(study: Model, unit: Unit) -> Grid:
    """Build the table of a Pareto front: the trade-offs one could have chosen."""
    rows = []
    for point in study["front"]:
        values = objective_values(study, point["values"])
        largest = sorted(point["coefficients"].items(), key=lambda item: -abs(item[1]))
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in largest if f"{value:.3f}" != "0.000"
        )
        rows.append(
            [
                Cell(str(point["number"])),
                cells.value(values["val"], unit),
                cells.value(values["val_shift"], unit),
                Cell(shown),
            ]
        )
    return Grid(["trial", "val", "val shifts", "coefficients, largest first"], rows)


def best_recipe_grid(results: Results, soup: Model) -> Grid:
    """Build the table of what goes into one soup: how much of which file."""
    known = {model["name"]: model for model in results.sweep["ingredients"]}
    rows = [
        [
            cells.header(name),
            cells.number(value, lambda coefficient: f"{coefficient:.4f}"),
            Cell(known[name]["digest"][:16] if name in known else "-"),
            Cell(known[name]["path"] if name in known else "-"),
        ]
        for name, value in soup["coefficients"].items()
        if value != 0
    ]
    return Grid(["ingredient", "coefficient", "SHA-256 begins", "file"], rows)


def checks_grid(results: Results) -> Grid | None:
    """Build the table of what was checked before anything was merged; None without checks.

    A row an ingredient and a column a check: what was measured, and what is wrong with it.
    """
    checks = [
        check
        for check in results.sweep.get("precheck", {}).get("checks", [])
        if check["ingredient"] is not None
    ]
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
    """Build the table that says which files and which MLflow runs the numbers belong to.

    Args:
        results: the run.
        runs: MLflow's run id by model.
    """
    models = [results.base["base"], *results.sweep["ingredients"], *results.merged]
    rows = [
        [
            cells.header(model["name"]),
            Cell(model["digest"]),
            Cell(runs.get(model["name"], "-")),
            Cell(model["path"]),
            Cell(f"{model['bytes']:,}", sort=model["bytes"]),
            Cell(f"{model['num_params']:,}", sort=model["num_params"]),
        ]
        for model in models
    ]
    rows += [
        [
            cells.header(model["name"]),
            Cell("its members'"),
            Cell(runs.get(model["name"], "-")),
            Cell("no file"),
            Cell(f"{model['cost']['bytes']:,}", sort=model["cost"]["bytes"]),
            Cell(f"{model['cost']['num_params']:,}", sort=model["cost"]["num_params"]),
        ]
        for model in models_of(results.evaluation, "ensemble", "repeats")
    ]
    return Grid(["model", "SHA-256", "MLflow run", "file", "bytes", "parameters"], rows)


def _names_in(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """List all keys, each once, in the order of first appearance."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _check(check: Mapping[str, Any] | None) -> Cell:
    if check is None:
        return Cell("-")
    value = check["value"]
    if not check["passed"]:
        return Cell("not passed", check["detail"], value, "worse")
    return Cell(plain(value) if value else "ok", sort=value)


def _coefficient(coefficients: Mapping[str, float], ingredient: str) -> Cell:
    if ingredient not in coefficients:
        return Cell("-", sort=0.0)
    value = coefficients[ingredient]
    largest = max(abs(coefficient) for coefficient in coefficients.values())
    share = round(100 * abs(value) / largest) if largest else 0
    return Cell(cells.typeset(f"{value:.3f}"), sort=value, share=share)


def _recipe_words(recipe: Mapping[str, Any]) -> str:
    return plain({name: value for name, value in recipe.items() if name != "name"})


def _used(soup: Model) -> list[str]:
    return [name for name, value in soup["coefficients"].items() if value != 0]


def _size_words(soup: Model) -> str:
    tried = f" of {len(soup['steps'])} tried" if soup.get("steps") else ""
    return f"{len(_used(soup))}{tried}"
