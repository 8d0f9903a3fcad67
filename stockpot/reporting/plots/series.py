"""Colour and marker of each model, the same in all plots."""

from __future__ import annotations

from dataclasses import dataclass

from stockpot.reporting.plots.svg import BASE, ENSEMBLE, INK, SOUPS, printable
from stockpot.reporting.results import Manifest, ModelEntry, main_models

_MARKERS = ("o", "^", "v", "P", "X", "p", "h", "<", ">")
_ENSEMBLE_MARKERS = ("*", "d", "H", "8")


@dataclass(frozen=True, slots=True)
class Series:
    """One model with its looks in the plots."""

    model: ModelEntry
    label: str
    colour: str
    marker: str

    @property
    def look(self) -> tuple[str, str]:
        """Colour and marker."""
        return self.colour, self.marker


def main_series(evaluation: Manifest) -> list[Series]:
    """Return base, best ingredient, soups, tuned soups and ensembles with their looks."""
    num_merged = num_ensembles = 0
    series = []
    for model in main_models(evaluation):
        label = shorten(model["name"])
        match model["kind"]:
            case "base":
                series.append(Series(model, label, BASE, "s"))
            case "ingredient":
                series.append(Series(model, "best ingredient", INK, "D"))
            case "ensemble" | "repeats":
                marker = _ENSEMBLE_MARKERS[num_ensembles % len(_ENSEMBLE_MARKERS)]
                series.append(Series(model, label, ENSEMBLE, marker))
                num_ensembles += 1
            case _:
                series.append(Series(model, label, *merged_look(num_merged)))
                num_merged += 1
    return series


def merged_look(number: int) -> tuple[str, str]:
    """Return colour and marker of a soup or tuned soup, by its position among all of them."""
    return SOUPS[number % len(SOUPS)], _MARKERS[number % len(_MARKERS)]


def shorten(name: str, limit: int = 26) -> str:
    """Shorten a name to fit a plot."""
    shown = printable(name)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
