"""The table of results: its rows, and its form in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from rich import box
from rich.table import Table
from rich.text import Text

from stockpot.metric_units import Unit
from stockpot.reporting.results import Manifest, ModelEntry, best_ingredient, models_of
from stockpot.reporting.tables.baselines import Baseline, random_soups, wise_ft
from stockpot.reporting.words.comparisons import SHIFT, TEST, Comparison, comparison
from stockpot.reporting.words.estimates import Estimate, interval_name, read_estimate
from stockpot.reporting.words.units import unit_of
from stockpot.reporting.words.verdict import Outcome

BEST = "best ingredient"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        name: "best ingredient", or the model's own name.
        detail: the model's name, if `name` is not.
        model: the model's name in the manifests; "" for a mean of several.
        kind: base, ingredient, soup, tuned, ensemble, or or baseline (no checkpoint of this run).
        val: score on val, not in percent; None if it was not recorded.
        test: score on test.
        shift: mean score over the test shifts; None without shifts.
        against_shift: `shift` compared with that of the best ingredient, paired.
        against_test: `test` compared with that of the best ingredient, paired.
        num_models: number of models that run per prediction.
        metrics: all metrics of the model; empty for a mean of several.
        cost: of a prediction, as far as known: parameters, bytes, flops.
    """

    name: str
    detail: str
    model: str
    kind: str
    val: Estimate | None
    test: Estimate | None
    shift: Estimate | None
    against_shift: Comparison | None = None
    against_test: Comparison | None = None
    num_models: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


def results_table(evaluation: Manifest) -> list[Row]:
    """Build the rows.

    Returns:
        Base, best and mean ingredient, random soups, soups, tuned soups, the best interpolation of
        base and soup, ensembles, repeats; without those that a run has none of.
    """
    ingredients = models_of(evaluation, "ingredient")
    rows = [_row(model["name"], model, evaluation) for model in models_of(evaluation, "base")]
    rows.append(_row(BEST, best_ingredient(evaluation), evaluation))
    if len(ingredients) > 1:
        rows.append(_mean_row(ingredients, evaluation["metric"]))
    rows += _baseline_rows(random_soups(evaluation))
    rows += [_row(m["name"], m, evaluation) for m in models_of(evaluation, "soup", "tuned")]
    rows += _baseline_rows(wise_ft(evaluation))
    rows += [_row(m["name"], m, evaluation) for m in models_of(evaluation, "ensemble", "repeats")]
    return rows


def score_cell(estimate: Estimate | None, unit: Unit) -> str:
    """Format a score with its interval: 96.5 [94.5,98.2]."""
    if estimate is None:
        return "-"
    return f"{unit.score(estimate.value)}{_bounds(estimate, unit.score)}"


def difference_cell(compared: Comparison | None, unit: Unit) -> str:
    """Format a difference with its interval; a star marks a significant one."""
    if compared is None:
        return "-"
    star = " " if compared.outcome is Outcome.NO_DIFFERENCE else "*"
    difference = f"{unit.difference(compared.difference.value)}{star}"
    return f"{difference}{_bounds(compared.difference, unit.difference)}".rstrip()


def star_note(evaluation: Manifest) -> str:
    """Return the legend of the star behind a difference."""
    return f"* p < {1 - evaluation['confidence']:.2g} after Holm's correction"


def render_terminal(rows: Sequence[Row], evaluation: Manifest) -> Table:
    """Return the table for a terminal of 100 columns; a narrower one wraps the cells.

    Colour is never the only mark: significant differences also have a star.
    """
    has_shift = any(row.shift is not None for row in rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, caption_justify="left")
    table.caption = _caption(evaluation, has_shift=has_shift)
    # Narrow enough that intervals, up to 100.0, are not wrapped.
    table.add_column("model", overflow="fold", max_width=17)
    for header in ("val", "test", *(["mean shift"] if has_shift else [])):
        table.add_column(header, justify="right", overflow="fold")
    for header in (*(["shift - best"] if has_shift else []), "test - best"):
        table.add_column(header, overflow="fold")
    table.add_column("cost", justify="right")
    unit = unit_of(evaluation)
    for row in rows:
        style = "bold" if row.name == BEST else ""
        table.add_row(*_cells(row, unit, has_shift=has_shift), style=style)
    return table


def _bounds(estimate: Estimate, write: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{write(estimate.low)},{write(estimate.high)}]"


def _row(name: str, model: ModelEntry, evaluation: Manifest) -> Row:
    metrics, metric = model["metrics"], evaluation["metric"]
    return Row(
        name=name,
        detail=model["name"] if name != model["name"] else "",
        model=model["name"],
        kind=model["kind"],
        val=read_estimate(metrics, f"val/{metric}"),
        test=read_estimate(metrics, f"test/{metric}"),
        shift=read_estimate(metrics, f"shift/mean/{metric}"),
        against_shift=comparison(evaluation, model["name"], SHIFT),
        against_test=comparison(evaluation, model["name"], TEST),
        num_models=model["cost"]["num_models"],
        metrics=metrics,
        cost=model["cost"],
    )


def _baseline_rows(baseline: Baseline | None) -> list[Row]:
    if baseline is None:
        return []
    val, test, shift = (
        None if score is None else Estimate(score)
        for score in (baseline.val, baseline.test, baseline.shift)
    )
    return [Row(baseline.name, baseline.detail, "", "baseline", val, test, shift)]


def _mean_row(ingredients: Sequence[ModelEntry], metric: str) -> Row:
    """Return the mean score of the ingredients, which has no interval."""

    def mean(name: str) -> Estimate | None:
        values = [model["metrics"][name] for model in ingredients if name in model["metrics"]]
        return Estimate(fmean(values)) if len(values) == len(ingredients) else None

    return Row(
        name="mean ingredient",
        detail="",
        model="",
        kind="ingredient",
        val=mean(f"val/{metric}"),
        test=mean(f"test/{metric}"),
        shift=mean(f"shift/mean/{metric}"),
    )


def _cells(row: Row, unit: Unit, *, has_shift: bool) -> list[Text]:
    scores = [
        Text(unit.score(row.val.value) if row.val else "-"),
        Text(score_cell(row.test, unit)),
        *([Text(score_cell(row.shift, unit))] if has_shift else []),
    ]
    compared = [row.against_shift] if has_shift else []
    differences = [_difference(one, unit) for one in [*compared, row.against_test]]
    # Text, not str: rich would read [94.5,98.2], or a name in brackets, as markup.
    return [Text(row.name), *scores, *differences, Text(f"{row.num_models}x")]


def _difference(compared: Comparison | None, unit: Unit) -> Text:
    if compared is None:
        return Text("-")
    colours = {Outcome.WORSE: "red", Outcome.NO_DIFFERENCE: "", Outcome.BETTER: "green"}
    value_width = len("+99.9*")  # aligns the intervals of a column
    padding = " " * (value_width - 1 - len(unit.difference(compared.difference.value)))
    return Text(padding + difference_cell(compared, unit), style=colours[compared.outcome])


def _caption(evaluation: Manifest, *, has_shift: bool) -> Text:
    interval, unit = interval_name(evaluation["confidence"]), unit_of(evaluation)
    best = evaluation["best_ingredient"]
    points = "points" if unit.is_fraction else "difference"
    shifts = f"; mean shift: {', '.join(evaluation['test_shifts'])}" if has_shift else ""
    return Text(
        f"{unit.scores}, [{interval}]{shifts}\n"
        f"- best: {points} to the best ingredient ({best}, chosen on val), "
        f"paired; {star_note(evaluation)}\n"
        "cost: models run per prediction",
        style="dim",
    )
