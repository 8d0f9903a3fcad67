"""How a soup is made, in words that one could follow by hand."""

from __future__ import annotations

from stockpot.metric_units import Unit
from stockpot.reporting.results import Model
from stockpot.reporting.words.estimates import plain

_NAMED = ("name", "select", "method", "objectives", "sampler", "search", "trials")


def recipe_words(soup: Model, unit: Unit) -> str:
    """Say how a soup was made: what was chosen how, merged how, and its score on val.

    Args:
        soup: from the soups or the tune manifest.
        unit: of the metric that choices looked at.
    """
    recipe = soup["recipe"]
    options = {name: value for name, value in recipe.items() if name not in _NAMED}
    told = f" ({plain(options)})" if options else ""
    used = sum(value != 0 for value in soup["coefficients"].values())
    score = unit.score_in_full(soup["scores"][f"val/{unit.metric}"])
    scored = f"{score} {unit.metric}" if unit.is_fraction else f"{unit.metric} {score}"
    return (
        f"{_chosen(soup)}, merged by {recipe.get('method', 'linear')}{told}: {used} "
        f"ingredient{'s' if used != 1 else ''}, {scored} on val."
    )


def _chosen(soup: Model) -> str:
    recipe = soup["recipe"]
    if soup["kind"] != "tuned":
        tried = f" of {len(soup['steps'])} tried in order" if soup.get("steps") else ""
        return f"Ingredients chosen by {recipe.get('select', 'hand').replace('_', ' ')}{tried}"
    search = recipe.get("sampler") or recipe.get("search", "search")
    trials = f" in {recipe['trials']} trials" if recipe.get("trials") else ""
    objectives = " and ".join(recipe.get("objectives", [])).replace("_", " ")
    for_what = f" for {objectives}" if objectives else ""
    return f"Coefficients searched by {search}{trials}{for_what}"
