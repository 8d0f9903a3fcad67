"""Axes in the unit of a metric, rows of models, axis limits, and legends below the plot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit
from stockpot.reporting.words.estimates import Estimate, typeset

WIDTH = 6.2  # inches; narrow enough to be read on a phone, where the page shrinks it

Interval = tuple[float, float]


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure; height and width in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def percent_axis(axis: Axis, max_intervals: int = 6) -> None:
    """Format the ticks of fractions as percentages, with as many decimals as they need.

    Args:
        axis: of a plot.
        max_intervals: between ticks; more than 6 (4 in half a plot) would make labels touch.
    """
    axis.set_major_locator(MaxNLocator(max_intervals))
    axis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.5g} %")


def score_axis(axis: Axis, unit: Unit, max_intervals: int = 6) -> None:
    """Format the ticks of scores: fractions in percent, everything else unchanged."""
    if unit.is_fraction:
        percent_axis(axis, max_intervals)
        return
    axis.set_major_locator(MaxNLocator(max_intervals))
    axis.set_major_formatter(lambda score, _: typeset(f"{score:.6g}"))


def difference_axis(axis: Axis, unit: Unit) -> None:
    """Format the ticks of differences of scores, with their signs."""

    def signed(value: float, _: float) -> str:
        return typeset(f"{unit.factor * value:+.3g}") if value else "0"

    axis.set_major_formatter(signed)


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label the rows of a plot that has one row per model, from top to bottom."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def draw_interval(axes: Axes, row: int, estimate: Estimate, colour: str) -> None:
    """Draw the interval of a value as a horizontal line in a row."""
    lengths = error_lengths([estimate])
    axes.errorbar(estimate.value, row, xerr=lengths, fmt="none", ecolor=colour, elinewidth=2.2)


def limits(values: Sequence[float], margin: float = 0.06) -> Interval:
    """Return axis limits around the values, with a margin at both ends."""
    low, high = min(values), max(values)
    room = margin * (high - low) or 0.01
    return low - room, high + room


def without_lowest(values: Sequence[float], share: float = 0.1) -> list[float]:
    """Drop the lowest values, so that failed trials of a search do not stretch the axis."""
    return sorted(values)[int(share * len(values)) :]


def interval_ends(estimate: Estimate) -> list[float]:
    """Return the value and the ends of its interval, if it has one."""
    ends = (estimate.value, estimate.low, estimate.high)
    return [end for end in ends if end is not None]


def error_lengths(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Return the lengths (2, N) below and above the values for `errorbar`; 0 without an interval.

    They are clipped at 0: a bootstrap interval need not contain its own estimate.
    """
    below = [max(e.value - e.low, 0.0) if e.low is not None else 0.0 for e in estimates]
    above = [max(e.high - e.value, 0.0) if e.high is not None else 0.0 for e in estimates]
    return [below, above]


def legend_below(figure: Figure, axes: Axes, num_columns: int = 3) -> None:
    """Place the legend of `axes` below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns)
