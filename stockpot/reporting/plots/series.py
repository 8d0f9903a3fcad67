"""Colour and marker of each model, the same in all plots."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, cycle, repeat

from stockpot.reporting.plots.svg import BASE, ENSEMBLE, INK, SOUPS, printable
from stockpot.reporting.results import Manifest, ModelEntry, main_models

VAL_PLACES = {
    "val": ("on val", (SOUPS[0], "o")),
    "val_shift": ("on val shifts (mean)", (SOUPS[1], "D")),
}
"""Title and look of the sets of examples that choices are based on."""

_MARKERS = ("o", "^", "v", "P", "X", "p", "h", "<", ">")
_ENSEMBLE_MARKERS = ("*", "d", "H", "8")


@dataclass(frozen=True, slots=True)
class Series:
    """One model with its looks in the plots."""

    model: ModelEntry
    label: str
    look: tuple[str, str]  # colour and marker

    @property
    def colour(self) -> str:
        """Colour of its marks and lines."""
        return self.look[0]


def main_series(evaluation: Manifest) -> list[Series]:
    """Return base, best ingredient, soups, tuned soups and ensembles with their looks."""
    merged = map(merged_look, count())
    ensembles = ((ENSEMBLE, marker) for marker in cycle(_ENSEMBLE_MARKERS))
    looks = {
        "base": repeat((BASE, "s")),
        "ingredient": repeat((INK, "D")),
        **dict.fromkeys(("soup", "tuned"), merged),
        **dict.fromkeys(("ensemble", "repeats"), ensembles),
    }
    return [Series(m, _label(m), next(looks[m["kind"]])) for m in main_models(evaluation)]


def _label(model: ModelEntry) -> str:
    return "best ingredient" if model["kind"] == "ingredient" else shorten(model["name"])


def merged_look(number: int) -> tuple[str, str]:
    """Return colour and marker of a soup or tuned soup, by its position among all of them."""
    return SOUPS[number % len(SOUPS)], _MARKERS[number % len(_MARKERS)]


def shorten(name: str, limit: int = 26) -> str:
    """Shorten a name to fit a plot."""
    shown = printable(name)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
