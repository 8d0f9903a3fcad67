"""The tables of a page that compares runs, and the one for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from stockpot.reporting.compare.runs import Run, Runs, differing_settings, mark
from stockpot.reporting.tables import cells, score_grids
from stockpot.reporting.tables.cells import Cell, Grid
from stockpot.reporting.tables.table import difference_cell, score_cell, star_words
from stockpot.reporting.words.comparisons import SHIFT, TEST
from stockpot.reporting.words.estimates import confidence_words


def best_grid(runs: Runs) -> Grid:
    """Build the table of best soups: a row a run, with the difference to the first."""
    rows = [
        [
            _header(run, run.best["name"]),
            Cell(run.best["name"]),
            cells.score(run.score(TEST), runs.unit),
            cells.score(run.score(SHIFT), runs.unit),
            cells.difference(runs.comparison(run.label, TEST), runs.unit),
            cells.difference(runs.comparison(run.label, SHIFT), runs.unit),
            cells.number(run.results.evaluation["num_test"]),
        ]
        for run in runs.runs
    ]
    columns = ["run", "best soup", "test", "mean shift", "test - first", "shift - first"]
    return Grid([*map(cells.typeset, columns), "test examples"], rows)


def all_models_grid(runs: Sequence[Run]) -> Grid:
    """Build one table of the results of all runs; where a run has no such column is a dash."""
    grids = [(run, score_grids.results_grid(run.results, None)) for run in runs]
    columns = list(dict.fromkeys(column for _, grid in grids for column in grid.columns))
    rows = []
    for run, grid in grids:
        for row in grid.rows:
            by_column = dict(zip(grid.columns, row, strict=True))
            scores = [by_column.get(column, Cell("-")) for column in columns]
            model = Cell(row[0].text, detail=row[0].detail)
            rows.append([_header(run, row[0].model), model, *scores[1:]])
    return Grid(["run", *columns], rows)


def settings_grid(runs: Sequence[Run]) -> Grid | None:
    """Build the table of settings that are not the same in all runs; None where all are."""
    rows = [
        [Cell(name), *(Cell("-" if text is None else text) for text in texts)]
        for name, texts in differing_settings(runs).items()
    ]
    return Grid(["setting", *(run.label for run in runs)], rows) if rows else None


def digests_grid(runs: Sequence[Run]) -> Grid:
    """Build the table of the files that the compared numbers belong to."""
    rows = [
        [_header(run, run.best["name"]), Cell(run.best["name"]), Cell(run.best["digest"])]
        for run in runs
    ]
    return Grid(["run", "best soup", "SHA-256"], rows)


def terminal_table(runs: Runs) -> Table:
    """Lay the best soups out for a terminal of 100 columns."""
    evaluation, unit = runs.runs[0].results.evaluation, runs.unit
    points = "points" if unit.is_fraction else "difference"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, caption_justify="left")
    table.caption = Text(
        f"{unit.scores}, [{confidence_words(runs.confidence)}] of each run's best "
        f"soup on val\n- first: {points} to that of {runs.runs[0].label}, paired; "
        f"{star_words(evaluation)}",
        style="dim",
    )
    table.add_column("run", overflow="fold", max_width=24)
    table.add_column("best soup", overflow="fold", max_width=17)
    for header in ("test", "mean shift"):
        table.add_column(header, justify="right", overflow="fold")
    for header in ("test - first", "shift - first"):
        table.add_column(header, overflow="fold")
    for run in runs.runs:
        scores = [score_cell(run.score(place), unit) for place in (TEST, SHIFT)]
        compared = [runs.comparison(run.label, place) for place in (TEST, SHIFT)]
        differences = [difference_cell(found, unit) for found in compared]
        texts = [run.label, run.best["name"], *scores, *differences]
        table.add_row(*map(Text, texts))
    return table


def _header(run: Run, model: str) -> Cell:
    """Head a row with its run; `model` is whose it is there, "" for a mean of several."""
    return Cell(run.label, model=mark(run, model) if model else "")
