"""The report's tables of scores: results, all metrics, tests, random soups, costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stockpot.metric_units import Unit
from stockpot.reporting.results import Manifest, Results, main_models
from stockpot.reporting.tables import cells
from stockpot.reporting.tables.cells import Cell, Grid
from stockpot.reporting.tables.table import BEST, Row, results_table
from stockpot.reporting.words.estimates import Estimate, counted, p_words, percent, points
from stockpot.reporting.words.units import unit_of


def results_grid(results: Results, latency_ms: float | None) -> Grid:
    """Build the main table; columns that no row has anything for are left out.

    Args:
        results: the run.
        latency_ms: of one model and one batch, where it was measured.
    """
    rows, unit = results_table(results.evaluation), unit_of(results.evaluation)
    calibrations = [unit_of(results.evaluation, name) for name in ("nll", "ece")]
    has_shift = bool(results.evaluation["test_shifts"])
    has_calibration = any("test/nll" in row.metrics for row in rows)
    columns = ["model", "val", "test", "mean shift", "shift - best", "test - best", "NLL", "ECE"]
    table = [
        [
            Cell(row.name, detail=row.detail, model=row.model),
            cells.score(row.val, unit),
            cells.score(row.test, unit),
            cells.score(row.shift, unit),
            cells.difference(row.against_shift, unit),
            cells.difference(row.against_test, unit),
            *(_calibration(row.metrics, one) for one in calibrations),
            _cost(row, latency_ms),
        ]
        for row in rows
    ]
    left_out = set() if has_shift else {"mean shift", "shift - best"}
    left_out |= set() if has_calibration else {"NLL", "ECE"}
    kept = [n for n, column in enumerate([*columns, "cost"]) if column not in left_out]
    named = [cells.typeset(column) for column in [*columns, "cost"]]
    return Grid([named[n] for n in kept], [[row[n] for n in kept] for row in table], _BEST)


def metric_grids(evaluation: Manifest) -> list[tuple[str, Grid]]:
    """Build a table of all metrics a set of examples, with what the set is called."""
    models = main_models(evaluation)
    names = dict.fromkeys(
        name.rpartition("/")[::2]
        for model in models
        for name in model["metrics"]
        if not name.startswith(("difference/", "ri/")) and not name.endswith(("_low", "_high"))
    )
    places = {
        place: [metric for where, metric in names if where == place]
        for place in sorted({place for place, _ in names if place}, key=_place_order)
    }
    grids = []
    for place, metrics in places.items():
        units = [unit_of(evaluation, name) for name in metrics]
        rows = [
            [
                cells.header(model["name"]),
                *(cells.metric(unit, model["metrics"], place) for unit in units),
            ]
            for model in models
        ]
        columns = ["model", *(name.replace("_", " ") for name in metrics)]
        grids.append((_place_words(place), Grid(columns, rows, _best_of(evaluation))))
    return grids


def cost_grid(evaluation: Manifest, latency_ms: float | None) -> Grid:
    """Build the table of what a prediction costs; the models of an ensemble run one by one."""
    rows = []
    for model in main_models(evaluation):
        cost = model["cost"]
        rows.append(
            [
                cells.header(model["name"]),
                cells.number(cost["num_models"]),
                cells.number(cost.get("num_params"), counted),
                cells.number(cost.get("bytes"), counted),
                cells.number(cost.get("flops"), counted),
                cells.number(latency_ms and latency_ms * cost["num_models"]),
            ]
        )
    columns = ["model", "models", "parameters", "bytes", "FLOPs", "ms a batch of 32, measured"]
    return Grid(columns, rows, _best_of(evaluation))


def comparisons_grid(evaluation: Manifest) -> Grid | None:
    """Build the table of all tests against the best ingredient; None where none was made."""
    unit = unit_of(evaluation)
    rows = [
        [
            cells.header(tested["model"]),
            Cell(tested["place"]),
            Cell(
                cells.typeset(unit.difference(tested["difference"])),
                cells.typeset(unit.bounds(tested["low"], tested["high"])),
                tested["difference"],
                tested["outcome"] if tested["outcome"] in ("better", "worse") else "",
            ),
            cells.number(tested["won"]),
            cells.number(tested["lost"]),
            cells.number(tested["n"]),
            cells.number(tested["p"], _p),
            cells.number(tested["p_holm"], _p),
            cells.number(tested["detectable"], unit.score),
            Cell(tested["test"]),
            Cell(tested["outcome"]),
        ]
        for tested in evaluation["comparisons"]
    ]
    columns = [
        *("model", "place", "difference", "better on", "worse on", "examples", "p", "p, Holm"),
        *("detectable", "test", "outcome"),
    ]
    return Grid(columns, rows) if rows else None


def random_soups_grid(evaluation: Manifest) -> Grid | None:
    """Build the table of soups against random ones; None where none were made."""
    unit = unit_of(evaluation)
    rows = [
        [
            cells.header(row["model"]),
            Cell(row["place"]),
            Cell(_pool_words(row)),
            Cell(
                cells.typeset(unit.score(row["mean"])),
                f"sd {unit.signed(row['sd'], more=1).removeprefix('+')}",
                row["mean"],
            ),
            Cell(
                cells.typeset(f"{100 * row['ri']:+.2f} %"),
                cells.typeset(f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"),
                row["ri"],
            ),
            cells.fraction(row["percentile"]),
        ]
        for row in evaluation.get("random_soups", {}).get("rows", [])
    ]
    columns = ["model", "place", "random soups", "their mean", "improvement", "share beaten"]
    return Grid(columns, rows) if rows else None


def conformal_grid(evaluation: Manifest) -> Grid | None:
    """Build the table of conformal prediction sets; None where there are none."""
    rows = [
        [
            cells.header(row["model"]),
            cells.fraction(1 - row["alpha"]),
            _share(Estimate(row["coverage"], row["low"], row["high"])),
            cells.number(row["mean_size"], lambda value: f"{value:.2f}"),
        ]
        for row in evaluation.get("conformal", [])
    ]
    columns = ["model", "asked for", "covered on test", "mean set size"]
    return Grid(columns, rows) if rows else None


def robustness_grid(evaluation: Manifest) -> Grid | None:
    """Build the table of gains beyond the ingredients' line; None where no line was fitted."""
    fitted = evaluation.get("effective_robustness") or {"rows": []}
    rows = [
        [cells.header(row["model"]), Cell(row["kind"]), _gain(row)]
        for row in fitted["rows"]
        if row["kind"] != "ingredient"
    ]
    return Grid(["model", "kind", "beyond the line"], rows) if rows else None


_BEST = frozenset({BEST})
_SETS = ("test", "shift/mean", "val", "val_shift/mean")


def _best_of(evaluation: Manifest) -> frozenset[str]:
    return frozenset({evaluation["best_ingredient"]})


def _place_order(place: str) -> tuple[int, str]:
    return (_SETS.index(place) if place in _SETS else len(_SETS), place)


def _place_words(place: str) -> str:
    kind, _, name = place.partition("/")
    kinds = {
        "test": "on test",
        "val": "on val",
        "shift": "under shift",
        "val_shift": "on val shift",
    }
    return f"{kinds[kind]}: {name}" if name else kinds[kind]


def _share(estimate: Estimate) -> Cell:
    """Write what is a share whatever the metric is, in percent."""
    return Cell(percent(estimate.value), cells.interval(estimate, percent), estimate.value)


def _calibration(metrics: Mapping[str, float], unit: Unit) -> Cell:
    """Write a metric on test, and behind it what temperature scaling makes of it."""
    cell = cells.metric(unit, metrics, "test")
    scaled = cells.metric(replace(unit, metric=f"{unit.metric}_scaled"), metrics, "test")
    detail = f"scaled {scaled.text}" if scaled.sort is not None else ""
    return Cell(cell.text, detail, cell.sort)


def _cost(row: Row, latency_ms: float | None) -> Cell:
    known = [
        f"{counted(row.cost[name])} {words}"
        for name, words in (("num_params", "params"), ("flops", "FLOPs"))
        if name in row.cost
    ]
    if known and latency_ms is not None:
        known.append(f"{latency_ms * row.num_models:.3g} ms")
    return Cell(f"{row.num_models}x", ", ".join(known), sort=row.num_models)


def _p(value: float) -> str:
    return p_words(value).removeprefix("p ")


def _pool_words(row: Mapping[str, object]) -> str:
    words = {"matched": f"of {row['size']}", "any": "of any size", "dirichlet": "random weights"}
    return words.get(str(row["pool"]), str(row["pool"]))


def _gain(row: Mapping[str, float]) -> Cell:
    estimate = Estimate(row["gain"], row.get("low"), row.get("high"))
    return Cell(
        cells.typeset(points(estimate.value)),
        cells.typeset(cells.interval(estimate, points)),
        estimate.value,
    )
