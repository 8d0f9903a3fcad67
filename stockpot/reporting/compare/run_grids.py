"""The tables of a page that compares runs, and the one for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from stockpot.reporting.compare.runs import Run, Runs, differing_settings, model_label
from stockpot.reporting.tables import cells, score_grids
from stockpot.reporting.tables.cells import MISSING, Cell, Grid, grid
from stockpot.reporting.tables.terminal import difference_cell, score_cell, score_table
from stockpot.reporting.words.comparisons import SHIFT, TEST, star_note
from stockpot.reporting.words.estimates import interval_name, typeset


def best_grid(runs: Runs) -> Grid:
    """Build the table of best soups: one row per run, with the difference to the first."""
    unit, against = runs.unit, runs.comparison
    columns = {
        **_BEST_SOUP,
        "test": lambda run: cells.score(run.score(TEST), unit),
        "mean shift": lambda run: cells.score(run.score(SHIFT), unit),
        typeset("test - first"): lambda run: cells.difference(against(run.label, TEST), unit),
        typeset("shift - first"): lambda run: cells.difference(against(run.label, SHIFT), unit),
        "test examples": lambda run: cells.number(run.results.evaluation["num_test"]),
    }
    return grid(columns, runs.runs)


def all_models_grid(runs: Sequence[Run]) -> Grid:
    """Build one table of the results of all runs; columns that a run lacks have a dash."""
    grids = [(run, score_grids.results_grid(run.results, None)) for run in runs]
    columns = list(dict.fromkeys(column for _, own in grids for column in own.columns))
    rows = []
    for run, own in grids:
        for row in own.rows:
            by_column = dict(zip(own.columns, row, strict=True))
            by_column["model"] = Cell(row[0].text, detail=row[0].detail)
            scores = [by_column.get(column, MISSING) for column in columns]
            rows.append([_header(run, row[0].model), *scores])
    return Grid(["run", *columns], rows)


def settings_grid(runs: Sequence[Run]) -> Grid | None:
    """Build the table of settings that differ between the runs; None if none does."""
    rows = [
        [Cell(name), *(Cell("-" if text is None else text) for text in texts)]
        for name, texts in differing_settings(runs).items()
    ]
    return Grid(["setting", *(run.label for run in runs)], rows) if rows else None


def digests_grid(runs: Sequence[Run]) -> Grid:
    """Build the table of the files that the compared numbers belong to."""
    return grid(_BEST_SOUP | {"SHA-256": lambda run: Cell(run.best["digest"])}, runs)


def terminal_table(runs: Runs) -> Table:
    """Return the table of best soups for a terminal of 100 columns."""
    evaluation, unit = runs.runs[0].results.evaluation, runs.unit
    points = "points" if unit.is_fraction else "difference"
    caption = (
        f"{unit.scores}, [{interval_name(runs.confidence)}], of each run's best "
        f"soup on val\n- first: {points} to that of {runs.runs[0].label}, paired; "
        f"{star_note(evaluation)}"
    )
    names, differences = {"run": 24, "best soup": 17}, ["test - first", "shift - first"]
    table = score_table(caption, names, ["test", "mean shift"], differences)
    for run in runs.runs:
        scores = [score_cell(run.score(place), unit) for place in (TEST, SHIFT)]
        compared = [runs.comparison(run.label, place) for place in (TEST, SHIFT)]
        differences = [difference_cell(found, unit) for found in compared]
        table.add_row(*map(Text, (run.label, run.best["name"], *scores, *differences)))
    return table


def _header(run: Run, model: str) -> Cell:
    """Head a row with its run; `model` is the run's model, "" for a mean of several."""
    return Cell(run.label, model=model_label(run, model) if model else "")


_BEST_SOUP: dict[str, Callable[[Run], Cell]] = {
    "run": lambda run: _header(run, run.best["name"]),
    "best soup": lambda run: Cell(run.best["name"]),
}
