"""A plot with its title and the help to read it: what each file of this package defines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec

from matplotlib.figure import Figure

from stockpot.reporting.pages import PageFigure
from stockpot.reporting.plots.svg import house_style, to_svg

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Plot(Generic[P]):
    """A plot of the report; calling it returns one <svg> element, or None without data.

    Attributes:
        draw: draws it; returns None if there is nothing to draw.
        title: heading of the figure, which a screen reader announces too.
        caption: how to read it.
        description: what is drawn, for screen readers.
        left_out: sentence that is shown when there is nothing to draw.
    """

    draw: Callable[P, Figure | None]
    title: str
    caption: str
    description: str
    left_out: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Draw the plot as one <svg> element; None if there is nothing to draw."""
        return self.figure(*args, **kwargs).svg

    def figure(self, *args: P.args, **kwargs: P.kwargs) -> PageFigure:
        """Draw the plot as a figure of a page; without data its caption is `left_out`."""
        return self._figure(self.title, "", *args, **kwargs)

    def figure_of(self, model: str, number: int, *args: P.args, **kwargs: P.kwargs) -> PageFigure:
        """Draw the plot of one model where a page has several: `number` makes its ids unique."""
        return self._figure(f"{self.title}: {model}", f"-{number}", *args, **kwargs)

    def _figure(self, title: str, suffix: str, *args: P.args, **kwargs: P.kwargs) -> PageFigure:
        name = self.draw.__name__.replace("_", "-") + suffix
        with house_style():
            drawn = self.draw(*args, **kwargs)
            svg = None if drawn is None else to_svg(drawn, name, title, self.description)
        return PageFigure(title, self.left_out if svg is None else self.caption, svg)


def plot(
    *, title: str, caption: str, description: str, left_out: str = ""
) -> Callable[[Callable[P, Figure | None]], Plot[P]]:
    """Declare that a function draws a plot; the arguments are the attributes of `Plot`."""
    return lambda draw: Plot(draw, title, caption, description, left_out)
