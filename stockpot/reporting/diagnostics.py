"""What the diagnostics are called in the report, in its order, and how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from stockpot.reporting.figures import Plot, score_plots
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


@dataclass(frozen=True, slots=True)
class Drawn:
    """All figures of a report.

    Attributes:
        plots: what the evaluation found.
        diagnostics: what the diagnostics found.
    """

    plots: Sequence[Plot]
    diagnostics: Sequence[Explained]

    @property
    def svgs(self) -> dict[str, str]:
        """The figures by title, without those that were left out."""
        every = [*self.plots, *(finding.plot for finding in self.diagnostics)]
        return {plot.title: plot.svg for plot in every if plot.svg is not None}


def draw_all(results: Results) -> Drawn:
    """Draw all figures of a report, which takes seconds."""
    return Drawn(score_plots(results), explained(results))


DIAGNOSTICS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "barriers": (
            "Loss barriers",
            "Above: what the average of two ingredients loses against the two, the more the "
            "fuller. Below: the loss on the way between two models. Above its dotted line it is a "
            "barrier, and averaging across it costs.",
        ),
        "similarity": (
            "Task vectors",
            "Cosines between what fine-tuning changed. Near 1: the ingredients learnt the same and "
            "averaging adds little. Near 0: they went their own ways. Negative: they undo each "
            "other. Branches that join above the cut are groups of their own.",
        ),
        "gradient_groups": (
            "Gradient groups",
            "Cosines of the directions in which the ingredients' own training would move the soup. "
            "Groups that oppose each other want different weights: try a soup of one group.",
        ),
        "loss_plane": (
            "Loss plane",
            "Val loss on the plane through three models; the small marks are the other models, "
            "moved straight onto it. One valley that holds them all is what averaging needs, a "
            "ridge between them is what breaks it.",
        ),
        "geometry": (
            "Representations, layer by layer",
            "How alike activations are (linear CKA). Where ingredients agree, averaging loses "
            "little. A soup's variance far below 1 is a layer that averaging flattened.",
        ),
        "regime": (
            "Rich or lazy",
            "How far fine-tuning moved weights (to the right) and features (up). A lazy net is "
            "almost linear in its weights, so its soup acts as the ensemble does; the bars say how "
            "far it does not.",
        ),
        "diversity": (
            "Diversity of predictions",
            "Above: what soups and the ensemble gain where ingredients disagree. A soup far below "
            "the ensemble wastes their diversity. Below: which ingredients differ.",
        ),
        "contributions": (
            "What each ingredient is worth",
            "Shapley values share the gain over the base fairly between the ingredients; on the "
            "right, what changes without one. Right of the line there: the soup is better off "
            "without it.",
        ),
        "soup_size": (
            "Shall I train more?",
            "Mean score of averages of so many ingredients, with the range of most of them. Where "
            "the curve is flat, more of the same will not help.",
        ),
    }
)
"""Title and reading help by name, in the order of the report."""
