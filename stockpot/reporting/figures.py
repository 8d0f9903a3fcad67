"""The figures of the report: plots of scores, and one section per diagnostic."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stockpot.reporting.pages import PageFigure
from stockpot.reporting.results import Results
from stockpot.reporting.tables.cells import Cell, Grid, number

if TYPE_CHECKING:
    from stockpot.reporting.plots.plot import Plot

_PLOTS = "stockpot.reporting.plots"


@dataclass(frozen=True, slots=True)
class DiagnosticSection:
    """One diagnostic in the report.

    Attributes:
        name: of the diagnostic.
        figure: its plot; without one, the title alone.
        sentence: what the finding means.
        alerts: models that should not have been in a soup, each with the reason.
        metrics: its numbers, for a diagnostic without a plot.
    """

    name: str
    figure: PageFigure
    sentence: str
    alerts: tuple[str, ...]
    metrics: Grid


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """All figures of a report: plots of scores, and sections of diagnostics."""

    scores: Sequence[PageFigure]
    diagnostics: Sequence[DiagnosticSection]

    @property
    def svgs(self) -> dict[str, str]:
        """The SVG elements by title, without the figures that were left out."""
        figures = [*self.scores, *(section.figure for section in self.diagnostics)]
        return {figure.title: figure.svg for figure in figures if figure.svg is not None}


def draw_figures(results: Results) -> ReportFigures:
    """Draw all figures of a report, which takes seconds."""
    from stockpot.reporting.plots.score_plots import score_figures

    return ReportFigures(list(score_figures(results)), diagnostic_sections(results))


def diagnostic_sections(results: Results) -> list[DiagnosticSection]:
    """Build one section per finding, in the order of `results.diagnostics`."""
    return [_section(name, finding) for name, finding in results.diagnostics.items()]


def plot_module(diagnostic: str) -> str | None:
    """Return the module of a diagnostic's plot, which has its name; None without a plot."""
    is_file = files(_PLOTS).joinpath(f"{diagnostic}.py").is_file()
    return f"{_PLOTS}.{diagnostic}" if diagnostic.isidentifier() and is_file else None


def _section(name: str, finding: Mapping[str, Any]) -> DiagnosticSection:
    plot, data = _plot_of(name), finding["data"]
    title = plot.title if plot else name.rpartition(":")[2].replace("_", " ").capitalize()
    figure = plot.figure(data) if plot and data else PageFigure(title, "", None)
    alerts = tuple(f"{alert['model']}: {alert['reason']}" for alert in finding["alerts"])
    rows = [[Cell(metric), number(value)] for metric, value in finding["metrics"].items()]
    return DiagnosticSection(
        name, figure, finding["sentence"], alerts, Grid(["metric", "value"], rows)
    )


def _plot_of(diagnostic: str) -> Plot[[Mapping[str, Any]]] | None:
    """Import the plot of a diagnostic: the attribute with its name in the module of its plot."""
    module = plot_module(diagnostic)
    if module is None:
        return None
    plot: Plot[[Mapping[str, Any]]] = getattr(importlib.import_module(module), diagnostic)
    return plot
