"""Each merged model minus the best ingredient, paired, with its interval."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stockpot.reporting.estimates import Estimate, points, read_estimate
from stockpot.reporting.plots.axes import error_lengths, new_figure
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import INK, house_style, tip, to_svg
from stockpot.reporting.results import Manifest


def differences(evaluation: Manifest) -> str | None:
    """Draw a row a soup and a panel for shift and for test; None where nothing was compared."""
    series = [s for s in main_series(evaluation) if s.model["kind"] not in ("base", "ingredient")]
    names = {
        f"difference/shift/mean/{evaluation['metric']}": "under shift (mean)",
        f"difference/test/{evaluation['metric']}": "on test",
    }
    shown = {n: title for n, title in names.items() if any(n in s.model["metrics"] for s in series)}
    if not shown:
        return None
    with house_style():
        figure = new_figure(1.1 + 0.32 * len(series))
        panels = figure.subplots(1, len(shown), sharey=True, sharex=True, squeeze=False)[0]
        for axes, (name, title) in zip(panels, shown.items(), strict=True):
            _draw_panel(axes, series, name)
            axes.set_title(title)
        figure.supxlabel("points more than the best ingredient", fontsize=10)
        return to_svg(
            figure,
            "differences",
            "Difference to the best ingredient",
            "Paired differences with intervals, a row a model; right of the line is better.",
        )


def _draw_panel(axes: Axes, series: list[Series], name: str) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    for row, one in enumerate(series):
        difference = read_estimate(one.model["metrics"], name)
        if difference is not None:
            _draw_interval(axes, row, one, difference)
    axes.set_yticks(range(len(series)), [one.label for one in series])
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value))


def _tick(difference: float) -> str:
    return f"{100 * difference:+.3g}".replace("-", "\N{MINUS SIGN}") if difference else "0"


def _draw_interval(axes: Axes, row: int, series: Series, difference: Estimate) -> None:
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
        markersize=11 if series.marker == "*" else 7.5,
        gid=tip(f"{series.model['name']}: {points(difference.value)} points"),
    )
