"""Expected calibration error of all main models, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.reporting.plots.axes import mark, percent_axis, row_panels
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.results import Manifest
from stockpot.reporting.words.estimates import percent

_PLACES = {"test": "on test", "shift/mean": "under shift (mean)"}


@plot(
    title="Calibration error",
    caption=(
        "The hollow mark is the model itself, the filled mark is after temperature "
        "scaling, fitted on val. The remaining error cannot be fixed by a temperature."
    ),
    description=(
        "One row per model: expected calibration error before (hollow) and after "
        "(filled) temperature scaling on val; left is better."
    ),
    left_out="Left out: the calibration of the models was not evaluated.",
)
def calibration(evaluation: Manifest) -> Figure | None:
    """Draw one row per model, from its error to the one after scaling; None without both."""
    shown = {place: series for place in _PLACES if (series := _measured(evaluation, place))}
    if not shown:
        return None
    rows = [s for s in main_series(evaluation) if any(s in series for series in shown.values())]
    titles = [_PLACES[place] for place in shown]
    figure, panels = row_panels(rows, titles, "expected calibration error", 0.32)
    for axes, (place, series) in zip(panels, shown.items(), strict=True):
        for row, one in enumerate(rows):
            if one in series:
                _draw(axes, row, one, place)
        axes.set_xlim(left=0)
        percent_axis(axes.xaxis, 4)
    return figure


def _measured(evaluation: Manifest, place: str) -> Sequence[Series]:
    names = {f"{place}/ece", f"{place}/ece_scaled"}
    return [s for s in main_series(evaluation) if names <= s.model["metrics"].keys()]


def _draw(axes: Axes, row: int, series: Series, place: str) -> None:
    metrics = series.model["metrics"]
    raw, scaled = metrics[f"{place}/ece"], metrics[f"{place}/ece_scaled"]
    axes.plot([raw, scaled], [row, row], color=series.colour, linewidth=1.2, alpha=0.5)
    for value, fill, words in ((raw, "none", "unscaled"), (scaled, "full", "scaled")):
        note = f"{series.model['name']}: {percent(value)}, {words}"
        mark(axes, (value, row), series.look, 7, note, fillstyle=fill, markeredgewidth=1.5)
