"""The recipe of a soup in one sentence."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from stockpot.metric_units import Unit
from stockpot.reporting.results import ModelEntry
from stockpot.reporting.words.estimates import short_text

_NAMED = ("name", "select", "method", "objectives", "sampler", "search", "trials")


def recipe_sentence(soup: ModelEntry, unit: Unit) -> str:
    """Describe how a soup was made: selection, merge method, and score on val.

    Args:
        soup: from the soups or the tune manifest.
        unit: of the metric on val that choices are based on.
    """
    recipe = soup["recipe"]
    options = {name: value for name, value in recipe.items() if name not in _NAMED}
    settings = f" ({short_text(options)})" if options else ""
    num_used = len(used(soup))
    score = unit.score_in_full(soup["scores"][f"val/{unit.metric}"])
    scored = f"{score} {unit.metric}" if unit.is_fraction else f"{unit.metric} {score}"
    return (
        f"{_selection(soup)}, merged with {recipe.get('method', 'linear')}{settings}: {num_used} "
        f"ingredient{'s' if num_used != 1 else ''}, {scored} on val."
    )


def reproduce_command(soup: ModelEntry, runs: Mapping[str, str]) -> str:
    """Return the command that rebuilds a soup, by its run in MLflow where that is known."""
    return f"stockpot reproduce {shlex.quote(runs.get(soup['name'], soup['name']))}"


def used(soup: ModelEntry) -> dict[str, float]:
    """Return the coefficients of a soup by ingredient, without those that are 0."""
    return {name: value for name, value in soup["coefficients"].items() if value != 0}


def _selection(soup: ModelEntry) -> str:
    recipe = soup["recipe"]
    if soup["kind"] != "tuned":
        tried = f" ({len(soup['steps'])} tried in order)" if soup.get("steps") else ""
        return f"Ingredients selected by {recipe.get('select', 'hand').replace('_', ' ')}{tried}"
    search = recipe.get("sampler") or recipe.get("search", "search")
    trials = f" in {recipe['trials']} trials" if recipe.get("trials") else ""
    objectives = " and ".join(recipe.get("objectives", [])).replace("_", " ")
    for_what = f" for {objectives}" if objectives else ""
    return f"Coefficients found by {search}{trials}{for_what}"
