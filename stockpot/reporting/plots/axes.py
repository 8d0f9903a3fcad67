"""Axes in a metric's unit, limits that keep what matters large, and legends below the plot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit
from stockpot.reporting.words.estimates import Estimate

WIDTH = 6.2  # inches; narrow enough to be read on a phone, where the page shrinks it

Interval = tuple[float, float]


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure; height and width in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def percent_axis(axis: Axis, max_intervals: int = 6) -> None:
    """Write the ticks of fractions as percentages, with as many decimals as they need.

    Args:
        axis: of a plot.
        max_intervals: between ticks; the labels of more than 6 would touch, of 4 in half a plot.
    """
    axis.set_major_locator(MaxNLocator(max_intervals))
    axis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.5g} %")


def score_axis(axis: Axis, unit: Unit, max_intervals: int = 6) -> None:
    """Write the ticks of scores: of fractions in percent, of all else as they are."""
    if unit.is_fraction:
        percent_axis(axis, max_intervals)
        return
    axis.set_major_locator(MaxNLocator(max_intervals))
    axis.set_major_formatter(lambda score, _: f"{score:.6g}".replace("-", "\N{MINUS SIGN}"))


def difference_axis(axis: Axis, unit: Unit) -> None:
    """Write the ticks of differences of scores, signed."""

    def written(value: float, _: float) -> str:
        return f"{unit.factor * value:+.3g}".replace("-", "\N{MINUS SIGN}") if value else "0"

    axis.set_major_formatter(written)


def limits(values: Sequence[float], margin: float = 0.06) -> Interval:
    """Return an interval around the values, with some room at both ends."""
    low, high = min(values), max(values)
    room = margin * (high - low) or 0.01
    return low - room, high + room


def without_lowest(values: Sequence[float], share: float = 0.1) -> list[float]:
    """Drop the lowest values, which a search's failures would otherwise stretch an axis for."""
    return sorted(values)[int(share * len(values)) :]


def interval_ends(estimate: Estimate) -> list[float]:
    """Return the value and, where there is one, both ends of its interval."""
    ends = (estimate.value, estimate.low, estimate.high)
    return [end for end in ends if end is not None]


def error_lengths(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Return the lengths below and above the values, as `errorbar` takes them; 0 for no interval.

    A bootstrap interval need not hold its own estimate: a negative length would be refused.
    """
    below = [max(e.value - e.low, 0.0) if e.low is not None else 0.0 for e in estimates]
    above = [max(e.high - e.value, 0.0) if e.high is not None else 0.0 for e in estimates]
    return [below, above]


def legend_below(figure: Figure, axes: Axes, num_columns: int = 3) -> None:
    """Put the legend of `axes` under the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns)
