"""How the models look in every plot: one colour and one marker each."""

from __future__ import annotations

from dataclasses import dataclass

from stockpot.reporting.plots.svg import BASE, ENSEMBLE, INK, SOUPS, printable
from stockpot.reporting.results import Manifest, Model, main_models

_MARKERS = ("o", "^", "v", "P", "X", "p", "h", "<", ">")


@dataclass(frozen=True, slots=True)
class Series:
    """One model as the plots draw it."""

    model: Model
    label: str
    colour: str
    marker: str


def main_series(evaluation: Manifest) -> list[Series]:
    """Give base, best ingredient, soups, tuned soups and ensemble their looks, in that order."""
    num_merged = 0
    series = []
    for model in main_models(evaluation):
        label = shorten(model["name"])
        match model["kind"]:
            case "base":
                series.append(Series(model, label, BASE, "s"))
            case "ingredient":
                series.append(Series(model, "best ingredient", INK, "D"))
            case "ensemble":
                series.append(Series(model, label, ENSEMBLE, "*"))
            case _:
                colour = SOUPS[num_merged % len(SOUPS)]
                marker = _MARKERS[num_merged % len(_MARKERS)]
                series.append(Series(model, label, colour, marker))
                num_merged += 1
    return series


def shorten(name: str, limit: int = 26) -> str:
    """Make a name fit a plot."""
    shown = printable(name)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
