"""Each merged model minus the best ingredient, paired, with its interval and its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import difference_axis, error_lengths, new_figure
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import GRID, INK, house_style, tip, to_svg
from stockpot.reporting.results import Manifest
from stockpot.reporting.words.comparisons import SHIFT, TEST, Comparison, comparison
from stockpot.reporting.words.estimates import p_words
from stockpot.reporting.words.units import unit_of
from stockpot.reporting.words.verdict import Outcome

_PLACES = {SHIFT: "under shift (mean)", TEST: "on test"}


def differences(evaluation: Manifest) -> str | None:
    """Draw a row a model and a panel for shift and for test; None where nothing was compared.

    Filled marks are differences that a test found, after Holm's correction; the band holds what
    these examples are too few to show.
    """
    series = [s for s in main_series(evaluation) if s.model["kind"] not in ("base", "ingredient")]
    compared = {
        place: {s.model["name"]: comparison(evaluation, s.model["name"], place) for s in series}
        for place in _PLACES
    }
    shown = [place for place in _PLACES if any(compared[place].values())]
    if not shown:
        return None
    unit = unit_of(evaluation)
    with house_style():
        figure = new_figure(1.1 + 0.32 * len(series))
        panels = figure.subplots(1, len(shown), sharey=True, sharex=True, squeeze=False)[0]
        for axes, place in zip(panels, shown, strict=True):
            _draw_band(axes, _detectable(evaluation, place))
            _draw_panel(axes, unit, series, [compared[place][s.model["name"]] for s in series])
            axes.set_title(_PLACES[place])
        figure.supxlabel(f"{unit.differences} more than the best ingredient", fontsize=10)
        return to_svg(
            figure,
            "differences",
            "Difference to the best ingredient",
            "Paired differences with intervals, a row a model; right of the line is better, filled "
            "marks are differences that were found.",
        )


def _detectable(evaluation: Manifest, place: str) -> float:
    """Return the median of the smallest differences that the tests of a place can show."""
    known = sorted(
        tested["detectable"]
        for tested in evaluation["comparisons"]
        if tested["place"] == place and tested["detectable"] is not None
    )
    return float(known[len(known) // 2]) if known else 0.0


def _draw_band(axes: Axes, detectable: float) -> None:
    if detectable:
        axes.axvspan(-detectable, detectable, color=GRID, alpha=0.45, linewidth=0, zorder=0)


def _draw_panel(
    axes: Axes, unit: Unit, series: Sequence[Series], compared: Sequence[Comparison | None]
) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    for row, (one, found) in enumerate(zip(series, compared, strict=True)):
        if found is not None:
            _draw_interval(axes, row, one, found, unit)
    axes.set_yticks(range(len(series)), [one.label for one in series])
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    difference_axis(axes.xaxis, unit)


def _draw_interval(axes: Axes, row: int, series: Series, found: Comparison, unit: Unit) -> None:
    difference = found.difference
    told = f"{unit.difference_in_full(difference.value)}, {p_words(found.p)}"
    axes.errorbar(
        difference.value,
        row,
        xerr=[[length[0]] for length in error_lengths([difference])],
        fmt="none",
        ecolor=series.colour,
        elinewidth=2.2,
    )
    axes.plot(
        difference.value,
        row,
        series.marker,
        color=series.colour,
        fillstyle="none" if found.outcome is Outcome.NO_DIFFERENCE else "full",
        markeredgewidth=1.6,
        markersize=11 if series.marker == "*" else 7.5,
        gid=tip(f"{series.model['name']}: {told}"),
    )
