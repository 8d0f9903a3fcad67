"""Tables of scores and differences in a terminal of 100 columns; a narrower one wraps the cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from stockpot.metric_units import Unit
from stockpot.reporting.results import Manifest, unit_of
from stockpot.reporting.tables.results_table import BEST, Row
from stockpot.reporting.words.comparisons import Comparison, Outcome, star_note
from stockpot.reporting.words.estimates import Estimate, interval_name


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


def score_table(
    caption: str, names: Mapping[str, int], scores: Sequence[str], differences: Sequence[str]
) -> Table:
    """Return a table without rows.

    Args:
        caption: below it.
        names: columns of names, with their largest width.
        scores: columns of scores, aligned right.
        differences: columns of differences.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, caption_justify="left")
    table.caption = Text(caption, style="dim")
    for header, width in names.items():
        table.add_column(header, overflow="fold", max_width=width)
    for header in scores:
        table.add_column(header, justify="right", overflow="fold")
    for header in differences:
        table.add_column(header, overflow="fold")
    return table


def render_terminal(rows: Sequence[Row], evaluation: Manifest) -> Table:
    """Return the table of results.

    Colour is never the only mark: significant differences also have a star.
    """
    shifts = evaluation["test_shifts"] if any(row.shift is not None for row in rows) else []
    scores, differences = ["val", "test"], ["test - best"]
    if shifts:
        scores, differences = [*scores, "mean shift"], ["shift - best", *differences]
    # Names are narrow enough that intervals, up to 100.0, are not wrapped.
    table = score_table(_caption(evaluation, shifts), {"model": 17}, scores, differences)
    table.add_column("cost", justify="right")
    unit = unit_of(evaluation)
    for row in rows:
        cells = _cells(row, unit, has_shift=bool(shifts))
        table.add_row(*cells, style="bold" if row.name == BEST else "")
    return table


def _bounds(estimate: Estimate, write: Callable[[float], str]) -> str:
    bounds = estimate.bounds(write, ",")
    return f" [{bounds}]" if bounds else ""


def _cells(row: Row, unit: Unit, *, has_shift: bool) -> list[Text]:
    scores = [score_cell(row.test, unit), *([score_cell(row.shift, unit)] if has_shift else [])]
    compared = [*([row.against_shift] if has_shift else []), row.against_test]
    val = unit.score(row.val.value) if row.val else "-"
    # Text, not str: rich would read [94.5,98.2], or a name in brackets, as markup.
    return [
        *map(Text, (row.name, val, *scores)),
        *(_difference(one, unit) for one in compared),
        Text(f"{row.num_models}x"),
    ]


def _difference(compared: Comparison | None, unit: Unit) -> Text:
    if compared is None:
        return Text("-")
    colours = {Outcome.WORSE: "red", Outcome.NO_DIFFERENCE: "", Outcome.BETTER: "green"}
    value_width = len("+99.9*")  # aligns the intervals of a column
    padding = " " * (value_width - 1 - len(unit.difference(compared.difference.value)))
    return Text(padding + difference_cell(compared, unit), style=colours[compared.outcome])


def _caption(evaluation: Manifest, shifts: Sequence[str]) -> str:
    interval, unit = interval_name(evaluation["confidence"]), unit_of(evaluation)
    best = evaluation["best_ingredient"]
    points = "points" if unit.is_fraction else "difference"
    mean = f"; mean shift: {', '.join(shifts)}" if shifts else ""
    return (
        f"{unit.scores}, [{interval}]{mean}\n"
        f"- best: {points} to the best ingredient ({best}, chosen on val), "
        f"paired; {star_note(evaluation)}\n"
        "cost: models run per prediction"
    )
