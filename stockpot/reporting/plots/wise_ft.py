"""Scores along the line from the base to a soup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stockpot.metric_units import Unit
from stockpot.reporting.plots.axes import legend_below, limits, mark, score_axis, side_panels
from stockpot.reporting.plots.plot import plot
from stockpot.reporting.plots.series import Series, main_series
from stockpot.reporting.results import Manifest, unit_of

_PLACES = {"val": "val", "test": "test", "shift": "test shifts (mean)"}


@plot(
    title="Interpolation from base to soup",
    caption=(
        "Averages of base and soup, with an increasing share of the soup (WiSE-FT). The "
        "ringed mark is the best on val. If it lies before the end, moving back towards the "
        "base helps."
    ),
    description=(
        "Score against the share of the soup in the average of base and soup; the ringed "
        "mark is the best on val."
    ),
    left_out="Left out: no interpolation from the base to a soup was evaluated.",
)
def wise_ft(evaluation: Manifest) -> Figure | None:
    """Draw one panel per set of examples and one line per soup; None without lines.

    Source: Wortsman et al. 2022, https://arxiv.org/abs/2109.01903.
    """
    paths = {path["model"]: path for path in evaluation.get("wise_ft", [])}
    series = [one for one in main_series(evaluation) if one.model["name"] in paths]
    if not series:
        return None
    places = [place for place in _PLACES if all(path.get(place) for path in paths.values())]
    unit = unit_of(evaluation)
    figure, panels = side_panels(3.6, [_PLACES[place] for place in places], sharex=True)
    for axes, place in zip(panels, places, strict=True):
        for one in series:
            _draw(axes, one, paths[one.model["name"]], place, unit)
        axes.set_xticks([0, 0.5, 1], ["base", "0.5", "soup"])
        axes.set_ylim(*limits([v for path in paths.values() for v in _upper(path[place])]))
        score_axis(axes.yaxis, unit)
    panels[0].set_ylabel(unit.metric)
    legend_below(figure, panels[0])
    return figure


def _upper(scores: Sequence[float]) -> Sequence[float]:
    """Return the scores above the lowest quarter of the range, where the lines differ."""
    floor = scores[0] + 0.25 * (max(scores) - scores[0])
    return [score for score in scores if score >= floor] or scores


def _draw(axes: Axes, series: Series, path: Mapping[str, Any], place: str, unit: Unit) -> None:
    axes.plot(path["alphas"], path[place], color=series.colour, linewidth=1.1, alpha=0.6)
    # Of equal ones the nearest to the soup, as in the table.
    best = max(range(len(path["alphas"])), key=lambda n: (path["val"][n], path["alphas"][n]))
    for number, (alpha, score) in enumerate(zip(path["alphas"], path[place], strict=True)):
        size, fill, edge = (10, "none", 1.8) if number == best else (4, "full", 0.5)
        style = {"fillstyle": fill, "markeredgewidth": edge, "label": series.label}
        note = f"{series.model['name']}: alpha {alpha:g}, {unit.score(score)}"
        mark(axes, (alpha, score), series.look, size, note, **style)
