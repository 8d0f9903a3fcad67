"""Each soup against random soups of its size: does the choice of ingredients matter?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import mark, row_panels, score_axis
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.plots.svg import QUIET
from stockpot.reporting.results import Manifest
from stockpot.reporting.tables.baselines import random_rows
from stockpot.reporting.words.estimates import percent
from stockpot.reporting.words.units import unit_of

Row = Mapping[str, Any]

_PLACES = {"shift": ("shift/mean", "under shift (mean)"), "test": ("test", "on test")}


@plot(
    title="Soups against random soups",
    caption=(
        "The bar is the mean of random soups with the same number of ingredients (of any "
        "size for a soup of all ingredients), plus and minus two standard deviations. A soup "
        "inside its bar gains from averaging, not from the choice of ingredients."
    ),
    description=(
        "One row per soup: the bar is mean and two standard deviations of random soups, "
        "the mark is the soup itself."
    ),
    left_out="Left out: no random soups were evaluated.",
)
def random_soups(evaluation: Manifest) -> Figure | None:
    """Draw one row per soup and one panel per set; None without random soups."""
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
    labels, titles = [one.label for one in series], [_PLACES[place][1] for place in shown]
    figure, panels = row_panels(labels, titles, 0.36)
    for axes, place in zip(panels, shown, strict=True):
        for row, one in enumerate(series):
            if (drawn := rows[one.model["name"]].get(place)) is not None:
                score = one.model["metrics"][f"{_PLACES[place][0]}/{unit.metric}"]
                _draw(axes, row, one, drawn, (score, unit))
        score_axis(axes.xaxis, unit, 4)
    figure.supxlabel(unit.metric, fontsize=10)
    return figure


def _draw(axes: Axes, place: int, series: Series, row: Row, scored: tuple[float, Unit]) -> None:
    score, unit = scored
    mean, spread = row["mean"], row["sd"]
    axes.plot([mean - 2 * spread, mean + 2 * spread], [place, place], color=QUIET, linewidth=5)
    size = "of any size" if row["size"] is None else f"of {row['size']}"
    note = f"random soups {size}: {unit.score(mean)} on average"
    mark(axes, (mean, place), (QUIET, "|"), 14, note, markeredgewidth=2)
    beaten = f"beats {percent(row['percentile'])} % of random soups {size}"
    note = f"{series.model['name']}: {unit.score(score)}, {beaten}"
    mark(axes, (score, place), series.look, 8, note)
