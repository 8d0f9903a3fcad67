"""The report's tables of scores: results, all metrics, comparisons, random soups, costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from stockpot.metric_units import Unit
from stockpot.reporting.results import Manifest, Results, main_models, unit_of
from stockpot.reporting.tables import cells
from stockpot.reporting.tables.cells import Cell, Grid, grid
from stockpot.reporting.tables.results_table import BEST, Row, results_table
from stockpot.reporting.words.estimates import (
    Estimate,
    p_text,
    percent,
    points,
    short_count,
    typeset,
)

Columns = dict[str, Callable[[Mapping[str, Any]], Cell]]

_SETS = ("test", "shift/mean", "val", "val_shift/mean")
_SET_KINDS = {
    "test": "on test",
    "val": "on val",
    "shift": "under shift",
    "val_shift": "on val shift",
}


def results_grid(results: Results, latency_ms: float | None) -> Grid:
    """Build the main table; columns without any value are left out.

    Args:
        results: the run.
        latency_ms: measured latency of one model and one batch, if known.
    """
    rows, unit = results_table(results.evaluation), results.unit
    columns: dict[str, Callable[[Row], Cell]] = {
        "model": lambda row: Cell(row.name, detail=row.detail, model=row.model),
        "val": lambda row: cells.score(row.val, unit),
        "test": lambda row: cells.score(row.test, unit),
    }
    if results.evaluation["test_shifts"]:
        columns |= {
            "mean shift": lambda row: cells.score(row.shift, unit),
            typeset("shift - best"): lambda row: cells.difference(row.against_shift, unit),
        }
    columns[typeset("test - best")] = lambda row: cells.difference(row.against_test, unit)
    if any("test/nll" in row.metrics for row in rows):
        for name in ("nll", "ece"):
            columns[name.upper()] = partial(_calibration, unit=unit_of(results.evaluation, name))
    columns["cost"] = lambda row: _cost(row, latency_ms)
    return grid(columns, rows, frozenset({BEST}))


def metric_grids(evaluation: Manifest) -> list[tuple[str, Grid]]:
    """Build one table of all metrics per set of examples, with the name of the set."""
    models = main_models(evaluation)
    names = dict.fromkeys(
        name.rpartition("/")[::2]
        for model in models
        for name in model["metrics"]
        if not name.startswith(("difference/", "ri/")) and not name.endswith(("_low", "_high"))
    )
    grids = []
    for place in sorted({place for place, _ in names if place}, key=_place_order):
        columns = _model_column("name")
        for metric in (metric for where, metric in names if where == place):
            unit = unit_of(evaluation, metric)
            columns[metric.replace("_", " ")] = partial(_metric_of, unit=unit, place=place)
        grids.append((_place_words(place), grid(columns, models, _best_of(evaluation))))
    return grids


def cost_grid(evaluation: Manifest, latency_ms: float | None) -> Grid:
    """Build the table of inference costs; the models of an ensemble run one after another."""
    columns = _model_column("name") | {
        "models": lambda model: cells.number(model["cost"]["num_models"]),
        "parameters": lambda model: cells.number(model["cost"].get("num_params"), short_count),
        "bytes": lambda model: cells.number(model["cost"].get("bytes"), short_count),
        "FLOPs": lambda model: cells.number(model["cost"].get("flops"), short_count),
        "ms per batch of 32, measured": lambda model: cells.number(
            latency_ms and latency_ms * model["cost"]["num_models"]
        ),
    }
    return grid(columns, main_models(evaluation), _best_of(evaluation))


def comparisons_grid(evaluation: Manifest) -> Grid:
    """Build the table of all comparisons with the best ingredient."""
    unit = unit_of(evaluation)
    columns = _model_column("model") | {
        "place": lambda tested: Cell(tested["place"]),
        "difference": lambda tested: cells.numeric(
            unit.difference(tested["difference"]),
            unit.bounds(tested["low"], tested["high"]),
            tested["difference"],
            tested["outcome"] if tested["outcome"] in ("better", "worse") else "",
        ),
        "better on": lambda tested: cells.number(tested["won"]),
        "worse on": lambda tested: cells.number(tested["lost"]),
        "examples": lambda tested: cells.number(tested["n"]),
        "p": lambda tested: cells.number(tested["p"], _p),
        "p, Holm": lambda tested: cells.number(tested["p_holm"], _p),
        "detectable": lambda tested: cells.number(tested["detectable"], unit.score),
        "test": lambda tested: Cell(tested["test"]),
        "outcome": lambda tested: Cell(tested["outcome"]),
    }
    return grid(columns, evaluation["comparisons"])


def random_soups_grid(evaluation: Manifest) -> Grid:
    """Build the table of soups against random soups."""
    unit = unit_of(evaluation)
    columns = _model_column("model") | {
        "place": lambda row: Cell(row["place"]),
        "random soups": lambda row: Cell(_pool_words(row)),
        "their mean": lambda row: cells.numeric(
            unit.score(row["mean"]), f"sd {unit.signed(row['sd'], more=1)[1:]}", row["mean"]
        ),
        "improvement": lambda row: cells.numeric(
            f"{100 * row['ri']:+.2f} %",
            f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}",
            row["ri"],
        ),
        "share beaten": lambda row: cells.number(row["percentile"], percent),
    }
    return grid(columns, evaluation.get("random_soups", {}).get("rows", []))


def conformal_grid(evaluation: Manifest) -> Grid:
    """Build the table of conformal prediction sets."""
    columns = _model_column("model") | {
        "target coverage": lambda row: cells.number(1 - row["alpha"], percent),
        "coverage on test": lambda row: cells.with_interval(
            Estimate(row["coverage"], row["low"], row["high"]), percent
        ),
        "mean set size": lambda row: cells.number(row["mean_size"], lambda size: f"{size:.2f}"),
    }
    return grid(columns, evaluation.get("conformal", []))


def robustness_grid(evaluation: Manifest) -> Grid:
    """Build the table of effective robustness: scores above the line fitted to ingredients."""
    columns = _model_column("model") | {
        "kind": lambda row: Cell(row["kind"]),
        "above the line": lambda row: cells.with_interval(
            Estimate(row["gain"], row.get("low"), row.get("high")), points
        ),
    }
    fitted = evaluation.get("effective_robustness") or {"rows": []}
    return grid(columns, [row for row in fitted["rows"] if row["kind"] != "ingredient"])


def _model_column(field: str) -> Columns:
    return {"model": lambda row: cells.header(row[field])}


def _metric_of(model: Mapping[str, Any], *, unit: Unit, place: str) -> Cell:
    return cells.metric(unit, model["metrics"], place)


def _best_of(evaluation: Manifest) -> frozenset[str]:
    return frozenset({evaluation["best_ingredient"]})


def _place_order(place: str) -> tuple[int, str]:
    return (_SETS.index(place) if place in _SETS else len(_SETS), place)


def _place_words(place: str) -> str:
    kind, _, name = place.partition("/")
    return f"{_SET_KINDS[kind]}: {name}" if name else _SET_KINDS[kind]


def _calibration(row: Row, *, unit: Unit) -> Cell:
    """Format a metric on test, with its value after temperature scaling as detail."""
    cell = cells.metric(unit, row.metrics, "test")
    scaled = cells.metric(replace(unit, metric=f"{unit.metric}_scaled"), row.metrics, "test")
    detail = f"scaled {scaled.text}" if scaled.sort is not None else ""
    return Cell(cell.text, detail, cell.sort)


def _cost(row: Row, latency_ms: float | None) -> Cell:
    known = [
        f"{short_count(row.cost[name])} {words}"
        for name, words in (("num_params", "params"), ("flops", "FLOPs"))
        if name in row.cost
    ]
    if known and latency_ms is not None:
        known.append(f"{latency_ms * row.num_models:.3g} ms")
    return Cell(f"{row.num_models}x", ", ".join(known), sort=row.num_models)


def _p(value: float) -> str:
    return p_text(value).removeprefix("p ").removeprefix("= ")


def _pool_words(row: Mapping[str, object]) -> str:
    words = {"matched": f"of {row['size']}", "any": "of any size", "dirichlet": "random weights"}
    return words.get(str(row["pool"]), str(row["pool"]))
