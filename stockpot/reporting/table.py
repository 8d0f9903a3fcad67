"""The table of results: its rows, and how they look in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich import box
from rich.table import Table
from rich.text import Text

from stockpot.reporting.estimates import (
    Estimate,
    confidence_words,
    percent,
    points,
    read_estimate,
)
from stockpot.reporting.results import Manifest, Model, best_ingredient, models_of
from stockpot.reporting.verdict import Outcome, judge

BEST = "best ingredient"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: what the table calls it: "best ingredient", or the model's own name.
        model: the model's name in the manifests; "" for a mean of several.
        kind: base, ingredient, soup, tuned or ensemble.
        val: score on val; a fraction, as are all that follow. None where it was not recorded.
        test: score on test.
        shift: mean score over the test shifts; None where there are none.
        shift_difference: `shift` minus that of the best ingredient, paired.
        test_difference: `test` minus that of the best ingredient, paired.
        num_models: how many models a prediction runs.
    """

    name: str
    model: str
    kind: str
    val: Estimate | None
    test: Estimate | None
    shift: Estimate | None
    shift_difference: Estimate | None
    test_difference: Estimate | None
    num_models: int


def results_table(evaluation: Manifest) -> list[Row]:
    """Build the rows: base, best and mean ingredient, soups, tuned soups, ensemble."""
    metric = evaluation["metric"]
    ingredients = models_of(evaluation, "ingredient")
    rows = [_row(model["name"], model, metric) for model in models_of(evaluation, "base")]
    rows.append(_row(BEST, best_ingredient(evaluation), metric))
    if len(ingredients) > 1:
        rows.append(_mean_row(ingredients, metric))
    for model in models_of(evaluation, "soup", "tuned", "ensemble"):
        rows.append(_row(model["name"], model, metric))
    return rows


def score_cell(estimate: Estimate | None) -> str:
    """Write a score with its interval: 96.5 [94.5,98.2]."""
    if estimate is None:
        return "-"
    return f"{percent(estimate.value)}{_bounds(estimate, percent)}"


def difference_cell(estimate: Estimate | None) -> str:
    """Write a difference, a star where its interval excludes 0, and the interval."""
    if estimate is None:
        return "-"
    star = "*" if estimate.excludes_zero else " "
    return f"{points(estimate.value)}{star}{_bounds(estimate, points)}".rstrip()


def render_terminal(rows: Sequence[Row], evaluation: Manifest) -> Table:
    """Lay the rows out for a terminal of 100 columns; a narrower one wraps the cells.

    Nothing is said by colour alone: an interval that excludes 0 has a star.
    """
    has_shift = any(row.shift is not None for row in rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, caption_justify="left")
    table.caption = _caption(evaluation, has_shift=has_shift)
    table.add_column("model", overflow="fold")
    for header in ("val", "test", *(["mean shift"] if has_shift else [])):
        table.add_column(header, justify="right", overflow="fold")
    for header in (*(["shift - best"] if has_shift else []), "test - best"):
        table.add_column(header, overflow="fold")
    table.add_column("cost", justify="right")
    for row in rows:
        table.add_row(*_cells(row, has_shift=has_shift), style="bold" if row.name == BEST else "")
    return table


def _bounds(estimate: Estimate, write: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{write(estimate.low)},{write(estimate.high)}]"


def _row(name: str, model: Model, metric: str) -> Row:
    metrics = model["metrics"]
    return Row(
        name=name,
        model=model["name"],
        kind=model["kind"],
        val=read_estimate(metrics, f"val/{metric}"),
        test=read_estimate(metrics, f"test/{metric}"),
        shift=read_estimate(metrics, f"shift/mean/{metric}"),
        shift_difference=read_estimate(metrics, f"difference/shift/mean/{metric}"),
        test_difference=read_estimate(metrics, f"difference/test/{metric}"),
        num_models=model["cost"]["num_models"],
    )


def _mean_row(ingredients: Sequence[Model], metric: str) -> Row:
    """Average what a random ingredient would have scored; a mean of models has no interval."""

    def mean(name: str) -> Estimate | None:
        values = [model["metrics"][name] for model in ingredients if name in model["metrics"]]
        return Estimate(fmean(values)) if len(values) == len(ingredients) else None

    return Row(
        name="mean ingredient",
        model="",
        kind="ingredient",
        val=mean(f"val/{metric}"),
        test=mean(f"test/{metric}"),
        shift=mean(f"shift/mean/{metric}"),
        shift_difference=None,
        test_difference=None,
        num_models=1,
    )


def _cells(row: Row, *, has_shift: bool) -> list[Text]:
    scores = [
        Text(percent(row.val.value) if row.val else "-"),
        Text(score_cell(row.test)),
        *([Text(score_cell(row.shift))] if has_shift else []),
    ]
    differences = [row.shift_difference] if has_shift else []
    differences.append(row.test_difference)
    # Text, not str: rich would read [94.5,98.2], or a name in brackets, as markup.
    return [Text(row.name), *scores, *map(_difference, differences), Text(f"{row.num_models}x")]


def _difference(estimate: Estimate | None) -> Text:
    if estimate is None:
        return Text("-")
    colours = {Outcome.WORSE: "red", Outcome.NO_DIFFERENCE: "", Outcome.BETTER: "green"}
    cell = difference_cell(estimate)
    value_width = len("+99.9*")  # so that the intervals of a column start at one place
    aligned = " " * (value_width - 1 - len(points(estimate.value))) + cell
    return Text(aligned, style=colours[judge(estimate)])


def _caption(evaluation: Manifest, *, has_shift: bool) -> Text:
    interval = confidence_words(evaluation["confidence"])
    shifts = f"; mean shift: {', '.join(evaluation['test_shifts'])}" if has_shift else ""
    return Text(
        f"{evaluation['metric']} in %, [{interval}]{shifts}\n"
        f"- best: points to the best ingredient ({evaluation['best_ingredient']}, chosen on val), "
        "paired; * interval excludes 0\n"
        "cost: models run for one prediction",
        style="dim",
    )
