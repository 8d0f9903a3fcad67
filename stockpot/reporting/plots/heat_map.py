"""Heat maps in one colour of varying opacity, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from stockpot.reporting.plots.series import shorten
from stockpot.reporting.plots.svg import SOUPS, tip
from stockpot.reporting.words.estimates import typeset

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
    faint, full = scale
    for row in range(1, len(shown)):
        for column in range(row):
            value = matrix[row][column]
            share = (value - faint) / (full - faint) if full > faint else 0.0
            opacity = 0.04 + (_FULL - 0.04) * min(max(share, 0.0), 1.0)
            note = tip(f"{names[row]}: {words(value)} with {names[column]}")
            cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=SOUPS[0], linewidth=0)
            cell.set(alpha=opacity, gid=note)
            axes.add_patch(cell)
            if len(shown) <= _MAX_NUMBERS:
                axes.text(column, row, words(value), ha="center", va="center", fontsize=8)
    axes.set_xlim(-0.5, len(shown) - 1.5)
    axes.set_ylim(len(shown) - 0.5, 0.5)
    axes.set_aspect("equal")
    axes.set_xticks(range(len(shown) - 1), shown[:-1], rotation=90, fontsize=8)
    axes.set_yticks(range(1, len(shown)), shown[1:], fontsize=8)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def off_diagonal(matrix: Sequence[Sequence[float]]) -> list[float]:
    """Return the values of a square matrix without its diagonal."""
    return [value for i, row in enumerate(matrix) for j, value in enumerate(row) if i != j]


def two_decimals(value: float) -> str:
    """Format a similarity."""
    return typeset(f"{value:.2f}")


def heat_map_height(num_names: int) -> float:
    """Return the height of a heat map with its labels, in inches."""
    return min(1.9 + 0.19 * num_names, 6.5)
