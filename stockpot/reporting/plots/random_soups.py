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
from stockpot.reporting.results import Manifest, unit_of
from stockpot.reporting.tables.results_table import random_rows
from stockpot.reporting.words.comparisons import METRIC_PLACES, TITLES
from stockpot.reporting.words.estimates import percent


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
    found = [
        (one, {row["place"]: row for row in drawn})
        for one in main_series(evaluation)
        if (drawn := random_rows(evaluation, one.model["name"]))
    ]
    shown = [place for place in TITLES if any(place in rows for _, rows in found)]
    if not shown:
        return None
    unit = unit_of(evaluation)
    titles = [TITLES[place] for place in shown]
    figure, panels = row_panels([one for one, _ in found], titles, unit.metric)
    for axes, place in zip(panels, shown, strict=True):
        for number, (one, rows) in enumerate(found):
            if place in rows:
                _draw(axes, number, one, rows[place], unit)
        score_axis(axes.xaxis, unit, 4)
    return figure


def _draw(axes: Axes, place: int, series: Series, row: Mapping[str, Any], unit: Unit) -> None:
    score = series.model["metrics"][f"{METRIC_PLACES[row['place']]}/{unit.metric}"]
    mean, spread = row["mean"], row["sd"]
    axes.plot([mean - 2 * spread, mean + 2 * spread], [place, place], color=QUIET, linewidth=5)
    size = "of any size" if row["size"] is None else f"of {row['size']}"
    note = f"random soups {size}: {unit.score(mean)} on average"
    mark(axes, (mean, place), (QUIET, "|"), 14, note, markeredgewidth=2)
    beaten = f"beats {percent(row['percentile'])} % of random soups {size}"
    note = f"{series.model['name']}: {unit.score(score)}, {beaten}"
    mark(axes, (score, place), series.look, 8, note)
