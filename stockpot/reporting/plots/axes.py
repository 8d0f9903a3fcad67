"""Axes in the unit of a metric, rows of models, axis limits, and legends below the plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stockpot.metric_units import Unit
from stockpot.reporting.plots.series import Series
from stockpot.reporting.plots.svg import tip
from stockpot.reporting.words.estimates import Estimate, typeset
from stockpot.reporting.words.objectives import MINIMIZED

WIDTH = 6.2  # inches; narrow enough to be read on a phone, where the page shrinks it

Look = tuple[str, str]  # colour and marker


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure; height and width in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def percent_axis(axis: Axis, max_intervals: int = 6) -> None:
    """Format the ticks of fractions as percentages, with as many decimals as they need.

    Args:
        axis: of a plot.
        max_intervals: between ticks; more than 6 (4 in half a plot) would make labels touch.
    """
    score_axis(axis, Unit("share"), max_intervals)


def score_axis(axis: Axis, unit: Unit, max_intervals: int = 6) -> None:
    """Format the ticks of scores: fractions in percent, everything else unchanged."""
    axis.set_major_locator(MaxNLocator(max_intervals))
    if unit.is_fraction:
        axis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.5g} %")
    else:
        axis.set_major_formatter(lambda score, _: typeset(f"{score:.6g}"))


def difference_axis(axis: Axis, unit: Unit) -> None:
    """Format the ticks of differences of scores, with their signs."""
    axis.set_major_formatter(
        lambda value, _: typeset(f"{unit.factor * value:+.3g}") if value else "0"
    )


def label_rows(axes: Axes, labels: Sequence[str], **style: Any) -> None:
    """Label the rows of a plot that has one row per model, from top to bottom."""
    axes.set_yticks(range(len(labels)), labels, **style)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def one_panel(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """Return a figure with one panel; height and width in inches."""
    figure = new_figure(height, width)
    return figure, figure.add_subplot()


def side_panels(height: float, titles: Iterable[str], **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel per title, from left to right.

    Args:
        height: in inches.
        titles: of the panels.
        shared: whether the panels share an axis: `sharex`, `sharey`.
    """
    titles, figure = [*titles], new_figure(height)
    panels = figure.subplots(1, len(titles), squeeze=False, **shared)[0]
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
    return figure, [*panels]


def row_panels(
    series: Sequence[Series],
    titles: Iterable[str],
    xlabel: str,
    row_height: float = 0.36,
    *,
    sharex: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel per title, in which each model has a labelled row."""
    height = 1.1 + row_height * len(series)
    figure, panels = side_panels(height, titles, sharex=sharex, sharey=True)
    for axes in panels:
        label_rows(axes, [one.label for one in series])
    figure.supxlabel(xlabel, fontsize=10)
    return figure, panels


def stacked_panels(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel below the other; heights in inches."""
    figure = new_figure(sum(heights))
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    return figure, list(panels)


def score_plane(
    units: tuple[Unit, Unit], x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str
) -> tuple[Figure, Axes]:
    """Return a figure with one panel, in which the axes hold these scores."""
    figure, axes = one_panel(4.6)
    axes.set(xlim=limits(x), ylim=limits(y), xlabel=xlabel, ylabel=ylabel)
    score_axis(axes.xaxis, units[0])
    score_axis(axes.yaxis, units[1])
    return figure, axes


def mark(
    axes: Axes, point: tuple[float, float], look: Look, size: float, note: str, **style: Any
) -> None:
    """Draw one marker with a tooltip.

    Args:
        axes: of the plot.
        point: x and y.
        look: colour and marker.
        size: of the marker in points; stars, which look smaller, are enlarged.
        note: text of the tooltip.
        style: further arguments of `Axes.plot`, such as the label in the legend.
    """
    colour, marker = look
    size = 1.5 * size if marker == "*" else size
    axes.plot(*point, marker, color=colour, markersize=size, gid=tip(note), **style)


def draw_interval(axes: Axes, row: int, estimate: Estimate, colour: str) -> None:
    """Draw the interval of a value as a horizontal line in a row."""
    lengths = error_lengths([estimate])
    axes.errorbar(estimate.value, row, xerr=lengths, fmt="none", ecolor=colour, elinewidth=2.2)


def limits(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Return axis limits around the values, with a margin at both ends."""
    low, high = min(values), max(values)
    room = margin * (high - low) or 0.01
    return low - room, high + room


def without_worst(values: Sequence[float], objective: str, share: float = 0.1) -> list[float]:
    """Drop the worst values, so that failed trials of a search do not stretch the axis."""
    is_minimized = objective in MINIMIZED
    return sorted(values, reverse=is_minimized)[int(share * len(values)) :]


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
    """Place the legend of `axes` below the figure, with each label once."""
    handles, labels = _legend_entries(axes)
    figure.legend(handles, labels, loc="outside lower center", ncols=num_columns)


def legend_right(axes: Axes) -> None:
    """Place the legend of `axes` to the right of the plot, with each label once."""
    axes.legend(*_legend_entries(axes), loc="center left", bbox_to_anchor=(1, 0.5))


def _legend_entries(axes: Axes) -> tuple[list[Any], list[str]]:
    """Return the handles and labels of the legend; of equal labels, the first."""
    first: dict[str, Any] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        first.setdefault(label, handle)
    return [*first.values()], [*first]
