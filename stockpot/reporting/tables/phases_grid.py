"""The report's table of the phases of pruning, retraining and averaging."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockpot.metric_units import Unit
from stockpot.reporting.results import ModelEntry, Results, unit_of
from stockpot.reporting.tables import cells
from stockpot.reporting.tables.cells import Cell, Grid

_COLUMNS = ["phase", "density in %", "models", "their mean on val", "their best on val"]


def phases_grid(results: Results) -> Grid | None:
    """Build the table of phases, the last of which made the ingredients; None without phases.

    The density is the share of weights that are not 0, of matrices and kernels.
    """
    phases = results.sweep.get("phases", [])
    if not phases:
        return None
    unit = unit_of(results.evaluation)
    rows = [
        [*_row(f"{number}", phase["models"], unit), _val(phase["average"], unit)]
        for number, phase in enumerate(phases, start=1)
    ]
    last = [one for one in results.sweep["ingredients"] if _is_of_phase(one)]
    if last:
        rows.append([*_row(f"{len(phases) + 1}", last, unit), Cell("see the soups")])
    return Grid([*_COLUMNS, "their average on val"], rows)


def _row(number: str, models: Sequence[ModelEntry], unit: Unit) -> Iterator[Cell]:
    scores = [model["scores"][f"val/{unit.metric}"] for model in models]
    densities = [100 * model["density"] for model in models]
    yield Cell(number)
    yield cells.number(max(densities), "{:.2f}".format)
    yield cells.number(len(models))
    yield cells.number(sum(scores) / len(scores), unit.score)
    yield cells.number(max(scores), unit.score)


def _val(model: ModelEntry, unit: Unit) -> Cell:
    return cells.number(model["scores"][f"val/{unit.metric}"], unit.score)


def _is_of_phase(ingredient: ModelEntry) -> bool:
    """Whether an ingredient is a model of the last phase: no import, no snapshot, no rounds."""
    is_pruned = ingredient.get("hyperparameters", {}).get("sparsity", 0) > 0
    return is_pruned and "epoch" not in ingredient
