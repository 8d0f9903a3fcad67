"""Each merged model minus the best ingredient, paired, with interval and significance."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_high

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import difference_axis, draw_interval, mark, row_panels
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import GRID, INK
from stockpot.reporting.results import Manifest, unit_of
from stockpot.reporting.words.comparisons import TITLES, Comparison, Outcome, comparison
from stockpot.reporting.words.estimates import p_text


@plot(
    title="Difference to the best ingredient",
    caption=(
        "Paired differences on the same examples, with intervals. A filled mark is a "
        "significant difference after correction for all comparisons; a hollow mark is no "
        "evidence of equality. Differences inside the shaded band, where there is one, are "
        "too small to be detected with these examples."
    ),
    description=(
        "One row per model: its paired difference to the best ingredient, with the "
        "interval. Right of the line is better; filled marks are significant."
    ),
    left_out="Left out: no soup was compared with the best ingredient.",
)
def differences(evaluation: Manifest) -> Figure | None:
    """Draw one row per model, one panel for shift and one for test; None without comparisons.

    Filled marks are significant after Holm's correction; the band holds the differences that are
    too small to be detected.
    """
    series = [s for s in main_series(evaluation) if s.model["kind"] not in ("base", "ingredient")]
    compared = {
        place: [comparison(evaluation, one.model["name"], place) for one in series]
        for place in TITLES
    }
    shown = [place for place in TITLES if any(compared[place])]
    if not shown:
        return None
    unit = unit_of(evaluation)
    titles = [TITLES[place] for place in shown]
    xlabel = f"difference to the best ingredient, in {unit.differences}"
    figure, panels = row_panels(series, titles, xlabel, 0.32, sharex=True)
    for axes, place in zip(panels, shown, strict=True):
        _draw_panel(axes, unit, series, compared[place])
    return figure


def _draw_panel(
    axes: Axes, unit: Unit, series: Sequence[Series], compared: Sequence[Comparison | None]
) -> None:
    known = [found.detectable for found in compared if found and found.detectable is not None]
    if known:
        detectable = median_high(known)
        axes.axvspan(-detectable, detectable, color=GRID, alpha=0.45, linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=1)
    for row, (one, found) in enumerate(zip(series, compared, strict=True)):
        if found is not None:
            _draw_difference(axes, row, one, found, unit)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    difference_axis(axes.xaxis, unit)


def _draw_difference(axes: Axes, row: int, series: Series, found: Comparison, unit: Unit) -> None:
    difference = found.difference
    size = unit.difference_in_full(difference.value)
    text = f"{series.model['name']}: {size}, {p_text(found.p)}"
    draw_interval(axes, row, difference, series.colour)
    fill = "none" if found.outcome is Outcome.NO_DIFFERENCE else "full"
    point = (difference.value, row)
    mark(axes, point, series.look, 7.5, text, fillstyle=fill, markeredgewidth=1.6)
