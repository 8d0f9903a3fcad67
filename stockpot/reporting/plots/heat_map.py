"""Heat maps in one colour of varying opacity, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import SOUPS, tip

_MAX_NAMES = 40  # more would be unreadable and make the page large
_MAX_NUMBERS = 12  # rows; in larger maps cells have no room for their numbers
_FULL = 0.75  # opacity at which a number is still readable


def draw_heat_map(
    axes: Axes,
    names: Sequence[str],
    matrix: Sequence[Sequence[float]],
    scale: tuple[float, float],
    words: Callable[[float], str],
) -> None:
    """Draw the lower triangle of a symmetric matrix, without its diagonal.

    Args:
        axes: of the plot; the first 40 names are drawn.
        names: K names.
        matrix: K rows of K values.
        scale: the values of the faintest and of the fullest cell.
        words: formats a value.
    """
    shown = [shorten(name, 18) for name in names[:_MAX_NAMES]]
    for row in range(1, len(shown)):
        for column in range(row):
            value = matrix[row][column]
            _draw_cell(axes, (row, column), _share(value, scale))
            axes.patches[-1].set_gid(tip(f"{names[row]}: {words(value)} with {names[column]}"))
            if len(shown) <= _MAX_NUMBERS:
                axes.text(column, row, words(value), ha="center", va="center", fontsize=8)
    axes.set_xlim(-0.5, len(shown) - 1.5)
    axes.set_ylim(len(shown) - 0.5, 0.5)
    axes.set_aspect("equal")
    axes.set_xticks(range(len(shown) - 1), shown[:-1], rotation=90, fontsize=8)
    axes.set_yticks(range(1, len(shown)), shown[1:], fontsize=8)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def heat_map_height(num_names: int) -> float:
    """Return the height of a heat map with its labels, in inches."""
    return min(1.9 + 0.19 * num_names, 6.5)


def _draw_cell(axes: Axes, place: tuple[int, int], share: float) -> None:
    row, column = place
    cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=SOUPS[0], linewidth=0)
    cell.set_alpha(0.04 + (_FULL - 0.04) * share)
    axes.add_patch(cell)


def _share(value: float, scale: tuple[float, float]) -> float:
    faint, full = scale
    return min(max((value - faint) / (full - faint), 0.0), 1.0) if full > faint else 0.0
