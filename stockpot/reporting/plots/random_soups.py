"""Each soup beside random soups of its size: is the choice better than luck?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import new_figure, score_axis
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import QUIET, house_style, tip, to_svg
from stockpot.reporting.results import Manifest
from stockpot.reporting.tables.baselines import random_rows
from stockpot.reporting.words.estimates import percent
from stockpot.reporting.words.units import unit_of

Row = Mapping[str, Any]

_PLACES = {"shift": ("shift/mean", "under shift (mean)"), "test": ("test", "on test")}


def random_soups(evaluation: Manifest) -> str | None:
    """Draw a row a soup and a panel a place; None where no random soups were made."""
    rows = {
        series.model["name"]: {row["place"]: row for row in found}
        for series in main_series(evaluation)
        if (found := random_rows(evaluation, series.model["name"]))
    }
    series = [one for one in main_series(evaluation) if one.model["name"] in rows]
    shown = [place for place in _PLACES if any(place in found for found in rows.values())]
    if not shown:
        return None
    unit = unit_of(evaluation)
    with house_style():
        figure = new_figure(1.1 + 0.36 * len(series))
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, place in zip(panels, shown, strict=True):
            score, title = _PLACES[place]
            drawn = [rows[one.model["name"]].get(place) for one in series]
            _draw_panel(axes, series, drawn, score, unit)
            axes.set_title(title)
        figure.supxlabel(unit.metric, fontsize=10)
        return to_svg(
            figure,
            "random-soups",
            "Soups and luck",
            "A row a soup: the bar is mean and two standard deviations of random soups, the mark "
            "is the soup itself.",
        )


def _draw_panel(
    axes: Axes, series: Sequence[Series], rows: Sequence[Row | None], where: str, unit: Unit
) -> None:
    for place, (one, row) in enumerate(zip(series, rows, strict=True)):
        if row is not None:
            _draw(axes, place, one, row, (one.model["metrics"][f"{where}/{unit.metric}"], unit))
    axes.set_yticks(range(len(series)), [one.label for one in series])
    axes.set_ylim(len(series) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    score_axis(axes.xaxis, unit, 4)


def _draw(axes: Axes, place: int, series: Series, row: Row, scored: tuple[float, Unit]) -> None:
    score, unit = scored
    mean, spread = row["mean"], row["sd"]
    axes.plot([mean - 2 * spread, mean + 2 * spread], [place, place], color=QUIET, linewidth=5)
    size = "of any size" if row["size"] is None else f"of {row['size']}"
    axes.plot(
        mean,
        place,
        "|",
        color=QUIET,
        markersize=14,
        markeredgewidth=2,
        gid=tip(f"random soups {size}: {unit.score(mean)} on average"),
    )
    axes.plot(
        score,
        place,
        series.marker,
        color=series.colour,
        markersize=8,
        gid=tip(
            f"{series.model['name']}: {unit.score(score)}, beats {percent(row['percentile'])} % of "
            f"random soups {size}"
        ),
    )
