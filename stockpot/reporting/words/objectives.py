"""The objectives of searches: their labels, units and directions."""

from __future__ import annotations

from collections.abc import Callable

from stockpot.metric_units import Unit
from stockpot.reporting.results import ModelEntry, Results, unit_of

MINIMIZED = ("loss",)


def objective_label(objective: str, metric: str) -> str:
    """Return the label of an axis or of a column.

    Args:
        objective: of a search.
        metric: the first one of the workload.
    """
    known = {
        "val": f"{metric} on val",
        "val_shift": f"{metric} on val shifts (mean)",
        "sparsity": "sparsity",
    }
    return known.get(objective, f"{objective} on val")


def objective_unit(objective: str, results: Results) -> Unit:
    """Return the unit of an objective's values."""
    if objective in ("val", "val_shift"):
        return results.unit
    if objective == "sparsity":
        return Unit("sparsity")
    return unit_of(results.evaluation, objective)


def better(objective: str) -> Callable[[float, float], float]:
    """Return the function that takes the better one of two values."""
    return min if objective in MINIMIZED else max


def model_score(model: ModelEntry, objective: str, metric: str) -> float | None:
    """Return a model's value of an objective; None if it was not scored by it."""
    places = {"val": f"val/{metric}", "val_shift": f"val_shift/mean/{metric}"}
    score: float | None = model["scores"].get(places.get(objective, f"val/{objective}"))
    return score
