"""What the diagnostics are called in the report, in its order, and how to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stockpot.reporting.figures import Plot
from stockpot.reporting.results import Results


@dataclass(frozen=True, slots=True)
class Explained:
    """One diagnostic as the report shows it.

    Attributes:
        name: of the diagnostic.
        plot: its figure; the caption says how to read it.
        sentence: what it means.
        alerts: models that it speaks against, and why.
    """

    name: str
    plot: Plot
    sentence: str
    alerts: tuple[str, ...]


def explained(results: Results) -> list[Explained]:
    """Put title, figure and reading help to each finding, in the order of the report."""
    from stockpot.reporting.plots import DIAGNOSTIC_PLOTS

    shown = []
    for name, (title, how_to_read) in DIAGNOSTICS.items():
        if name not in results.diagnostics:
            continue
        finding = results.diagnostics[name]
        svg = DIAGNOSTIC_PLOTS[name](finding["data"]) if finding["data"] else None
        told = tuple(f"{alert['model']}: {alert['reason']}" for alert in finding["alerts"])
        shown.append(Explained(name, Plot(title, how_to_read, svg), finding["sentence"], told))
    return shown


DIAGNOSTICS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "barriers": (
            "Loss barriers",
            "How much the loss rises on the way between two models, above the straight line "
            "between their losses. Near 0: one basin, averaging is safe. High: their average is "
            "worse than both.",
        ),
        "similarity": (
            "Task vectors",
            "Cosines between what fine-tuning changed. Near 1: the ingredients learnt the same "
            "and averaging adds little. Near 0: they went their own ways. Negative: they undo each "
            "other.",
        ),
        "gradient_groups": (
            "Gradient groups",
            "Ingredients whose gradients on val agree stand together. Groups that disagree want "
            "different weights: try a soup of one group.",
        ),
        "loss_plane": (
            "Loss plane",
            "Val loss on the plane through three models. One valley that holds them all is what "
            "averaging needs; a ridge between them is what breaks it.",
        ),
        "geometry": (
            "Representations, layer by layer",
            "How alike the models' activations are (linear CKA). Where ingredients agree, "
            "averaging loses little; a layer with low values is where a soup can break.",
        ),
        "regime": (
            "Rich or lazy",
            "How far fine-tuning moved weights and features. A lazy fine-tuning is almost linear "
            "in the weights and averages well; a rich one may leave the basin.",
        ),
        "diversity": (
            "Diversity of predictions",
            "How often ingredients err on different examples. Averaging pays where they are good "
            "and err differently.",
        ),
        "contributions": (
            "What each ingredient is worth",
            "Shapley values share the soup's gain fairly between its ingredients; leave-one-out "
            "says what is lost without one. Below 0: the soup is better off without it, on val.",
        ),
        "soup_size": (
            "Shall I train more?",
            "Expected val score of a soup against its number of ingredients, over random orders. "
            "Where the curve is flat, more of the same will not help.",
        ),
    }
)
"""Title and reading help by name, in the order of the report."""
