"""How far confidences are off, for all main models, and what one temperature repairs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from stockpot.reporting.plots.axes import new_figure, percent_axis
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import house_style, tip, to_svg
from stockpot.reporting.results import Manifest
from stockpot.reporting.words.estimates import percent

_PLACES = {"test": "on test", "shift/mean": "under shift (mean)"}


def calibration(evaluation: Manifest) -> str | None:
    """Draw a row a model, from its calibration error as it is to the one after scaling.

    Returns:
        None where no model has both.
    """
    shown = {place: _measured(evaluation, place) for place in _PLACES}
    shown = {place: series for place, series in shown.items() if series}
    if not shown:
        return None
    rows = [s for s in main_series(evaluation) if any(s in series for series in shown.values())]
    with house_style():
        figure = new_figure(1.1 + 0.32 * len(rows))
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, (place, series) in zip(panels, shown.items(), strict=True):
            for row, one in enumerate(rows):
                if one in series:
                    _draw(axes, row, one, place)
            axes.set_title(_PLACES[place])
            axes.set_yticks(range(len(rows)), [one.label for one in rows])
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_xlim(left=0)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            percent_axis(axes.xaxis, 4)
        figure.supxlabel("expected calibration error", fontsize=10)
        return to_svg(
            figure,
            "calibration",
            "Calibration error",
            "A row a model: the hollow mark is the error as the model is, the filled one after "
            "temperature scaling on val; left is better.",
        )


def _measured(evaluation: Manifest, place: str) -> Sequence[Series]:
    names = {f"{place}/ece", f"{place}/ece_scaled"}
    return [s for s in main_series(evaluation) if names <= s.model["metrics"].keys()]


def _draw(axes: Axes, row: int, series: Series, place: str) -> None:
    metrics = series.model["metrics"]
    raw, scaled = metrics[f"{place}/ece"], metrics[f"{place}/ece_scaled"]
    axes.plot([raw, scaled], [row, row], color=series.colour, linewidth=1.2, alpha=0.5)
    for value, fill, words in ((raw, "none", "as it is"), (scaled, "full", "scaled")):
        axes.plot(
            value,
            row,
            series.marker,
            color=series.colour,
            fillstyle=fill,
            markersize=10 if series.marker == "*" else 7,
            markeredgewidth=1.5,
            gid=tip(f"{series.model['name']}: {percent(value)}, {words}"),
        )
