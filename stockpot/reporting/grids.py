"""The report's tables as plain cells, ready for the template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stockpot.reporting.estimates import Estimate, percent, plain, points
from stockpot.reporting.results import Model, Results, models_of, objective_values
from stockpot.reporting.table import BEST, results_table
from stockpot.reporting.verdict import Outcome, judge


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it.
        detail: what stands smaller behind it.
        sort: what its column is sorted by, where that is not the text.
        tone: better or worse, which the page colours.
        share: how strongly it is shaded, in percent; None for no shade.
    """

    text: str
    detail: str = ""
    sort: float | None = None
    tone: str = ""
    share: int | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """One table; the first cell of a row is its header."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    emphasised: frozenset[str] = field(default_factory=frozenset)  # rows, by their first cell


def results_grid(results: Results) -> Grid:
    """Build the main table; the columns under shift are left out where there are no test shifts."""
    rows = results_table(results.evaluation)
    has_shift = bool(results.evaluation["test_shifts"])
    columns = ["model", "val", "test", "mean shift", "shift - best", "test - best", "cost"]
    cells = [
        [
            Cell(row.name, detail=row.model if row.name == BEST else ""),
            _score(row.val),
            _score(row.test),
            _score(row.shift),
            _difference(row.shift_difference),
            _difference(row.test_difference),
            Cell(f"{row.num_models}x", sort=row.num_models),
        ]
        for row in rows
    ]
    kept = [n for n, column in enumerate(columns) if has_shift or "shift" not in column]
    return Grid(
        [columns[n].replace(" - best", " \N{MINUS SIGN} best") for n in kept],
        [[row[n] for n in kept] for row in cells],
        frozenset({BEST}),
    )


def ingredients_grid(results: Results) -> Grid:
    """Build the table of ingredients: hyperparameters, val scores, and what test said later."""
    evaluation, metric = results.evaluation, results.evaluation["metric"]
    ingredients = results.sweep["ingredients"]
    hyperparameters = _names_in(model["hyperparameters"] for model in ingredients)
    judged = {model["name"]: model["metrics"] for model in models_of(evaluation, "ingredient")}
    chosen_on = {"val": f"val/{metric}", "val shifts": f"val_shift/mean/{metric}"}
    reported = {"test": f"test/{metric}", "mean shift": f"shift/mean/{metric}"}
    scores = _names_in(model["scores"] for model in ingredients)
    chosen_on = {label: name for label, name in chosen_on.items() if name in scores}
    if not evaluation["test_shifts"]:
        del reported["mean shift"]
    rows = [
        [
            Cell(model["name"]),
            *(_setting(model["hyperparameters"].get(name)) for name in hyperparameters),
            *(_fraction(model["scores"].get(name)) for name in chosen_on.values()),
            *(_fraction(judged.get(model["name"], {}).get(name)) for name in reported.values()),
        ]
        for model in ingredients
    ]
    labels = [name.replace("_", " ") for name in hyperparameters]
    columns = ["ingredient", *labels, *chosen_on, *reported]
    return Grid(columns, rows, frozenset({evaluation["best_ingredient"]}))


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
        [Cell(name), *(_coefficient(soup["coefficients"], name) for soup in soups)]
        for name in ingredients
    ]
    return Grid(["ingredient", *(soup["name"] for soup in soups)], rows)


def recipes_grid(results: Results) -> Grid:
    """Build the table of recipes: how each soup was made."""
    rows = [
        [
            Cell(soup["name"]),
            Cell(soup["kind"]),
            Cell(_recipe_words(soup["recipe"])),
            Cell(_size_words(soup), sort=len(_used(soup))),
        ]
        for soup in results.merged
    ]
    return Grid(["soup", "kind", "recipe", "ingredients"], rows)


def front_grid(study: Model) -> Grid:
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
                _fraction(values["val"]),
                _fraction(values["val_shift"]),
                Cell(shown),
            ]
        )
    return Grid(["trial", "val", "val shifts", "coefficients, largest first"], rows)


def digests_grid(results: Results) -> Grid:
    """Build the table that says which files the numbers belong to."""
    models = [results.base["base"], *results.sweep["ingredients"], *results.merged]
    rows = [
        [
            Cell(model["name"]),
            Cell(model["digest"]),
            Cell(model["path"]),
            Cell(f"{model['bytes']:,}", sort=model["bytes"]),
            Cell(f"{model['num_params']:,}", sort=model["num_params"]),
        ]
        for model in models
    ]
    return Grid(["model", "SHA-256", "file", "bytes", "parameters"], rows)


def _names_in(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """List all keys, each once, in the order of first appearance."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _score(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell("-")
    return Cell(percent(estimate.value), _interval(estimate, percent), estimate.value)


def _difference(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell("-")
    tones = {Outcome.WORSE: "worse", Outcome.NO_DIFFERENCE: "", Outcome.BETTER: "better"}
    text = f"{points(estimate.value)}{' *' if estimate.excludes_zero else ''}"
    return Cell(
        _typeset(text),
        _typeset(_interval(estimate, points)),
        estimate.value,
        tones[judge(estimate)],
    )


def _interval(estimate: Estimate, write: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{write(estimate.low)} to {write(estimate.high)}"


def _typeset(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")


def _fraction(value: float | None) -> Cell:
    return Cell("-") if value is None else Cell(percent(value), sort=value)


def _setting(value: Any) -> Cell:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Cell(plain(value), sort=float(value) if is_number else None)


def _coefficient(coefficients: Mapping[str, float], ingredient: str) -> Cell:
    if ingredient not in coefficients:
        return Cell("-", sort=0.0)
    value = coefficients[ingredient]
    largest = max(abs(coefficient) for coefficient in coefficients.values())
    share = round(100 * abs(value) / largest) if largest else 0
    return Cell(_typeset(f"{value:.3f}"), sort=value, share=share)


def _recipe_words(recipe: Mapping[str, Any]) -> str:
    return plain({name: value for name, value in recipe.items() if name != "name"})


def _used(soup: Model) -> list[str]:
    return [name for name, value in soup["coefficients"].items() if value != 0]


def _size_words(soup: Model) -> str:
    tried = f" of {len(soup['steps'])} tried" if soup.get("steps") else ""
    return f"{len(_used(soup))}{tried}"
