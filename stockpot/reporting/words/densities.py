"""The masks of soups of pruned ingredients, in one sentence per soup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockpot.reporting.results import ModelEntry, Results
from stockpot.reporting.words.estimates import percent

_KEPT = {
    "union": "the weights of any ingredient are kept",
    "intersection": "the weights that all ingredients have are kept",
    "first": "the weights of the first ingredient are kept",
    "none": "all weights are kept, also those that were 0 in every ingredient",
}
_LESS = 0.999  # a density below is that of a pruned model


def density_sentences(results: Results) -> list[str]:
    """Return a sentence on each soup of pruned ingredients: what was kept, and its density.

    A soup that is denser than all of its ingredients is said to be so, whatever made it.
    """
    listed = results.sweep.get("ingredients", [])
    densities = {model["name"]: model.get("density", 1.0) for model in listed}
    return [
        f"{soup['name']}: {sentence}."
        for soup in results.merged
        if (sentence := _sentence(soup, densities))
    ]


def _sentence(soup: ModelEntry, densities: Mapping[str, Any]) -> str:
    used = [densities[name] for name in soup.get("inputs", {}) if name in densities]
    if not used or min(used) > _LESS or "density" not in soup or soup.get("num_nets", 1) > 1:
        return ""
    low, high = percent(min(used)), percent(max(used))
    theirs = f"{low} %" if low == high else f"{low} to {high} %"
    masks = soup.get("masks")
    kept = f"{_KEPT[masks]}; " if masks else ""
    more = ", more than each of them" if soup["density"] > max(used) + 1e-6 else ""
    return (
        f"{kept}{percent(soup['density'])} % of its weights are not 0{more}, of its ingredients' "
        f"{theirs}"
    )
