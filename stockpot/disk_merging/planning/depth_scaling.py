"""The depth of tensors, from their names, for merges that are scaled over depth (LiNeS)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

from stockpot.errors import InputError
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.storage.weights.tensor_names import is_after_layers, is_head, layer_of, stack_of


def depths(names: Collection[str]) -> dict[str, float]:
    """Return the depth of each tensor: l / (L - 1) for the l-th (from 0) of L numbered layers.

    Each stack of layers counts on its own, such as an encoder's and a decoder's. Tensors outside
    of layers have depth 0 before them, such as embeddings, and 1 after them, such as heads.

    Args:
        names: of all tensors of the model.

    Returns:
        Depths in [0, 1] by name; empty for a model without two numbered layers in one stack.
    """
    layers = defaultdict[str | None, set[int]](set)
    for name in names:
        layer = layer_of(name)
        if layer is not None:
            layers[stack_of(name)].add(layer)
    ranks = {
        stack: {layer: rank / max(len(own) - 1, 1) for rank, layer in enumerate(sorted(own))}
        for stack, own in layers.items()
    }
    if not any(len(own) > 1 for own in ranks.values()):
        return {}
    return {name: _depth(name, ranks) for name in names}


def _depth(name: str, ranks: Mapping[str | None, Mapping[int, float]]) -> float:
    layer = layer_of(name)
    if layer is not None:
        return ranks[stack_of(name)][layer]
    return 1.0 if is_head(name) or is_after_layers(name) else 0.0


def by_depth(recipe_of: Recipe | RecipeOf, names: Collection[str]) -> Recipe | RecipeOf:
    """Return the recipes with the depth of their tensors, if they are scaled over depth.

    Args:
        recipe_of: the recipe, or those of tensors by name.
        names: of all tensors of the models.
    """
    if isinstance(recipe_of, Recipe) and not recipe_of.varies_with_depth:
        return recipe_of
    known = depths(names)
    made: dict[tuple[int, float], tuple[Recipe, Recipe]] = {}  # equal ones are checked once

    def chosen(name: str) -> Recipe:
        own = recipe_of if isinstance(recipe_of, Recipe) else recipe_of(name)
        deep = at_depth(own, name, known)
        return made.setdefault((id(own), deep.depth or 0.0), (own, deep))[1]

    return chosen


def at_depth(recipe: Recipe, name: str, known: Mapping[str, float]) -> Recipe:
    """Return the recipe of a tensor with its depth, if it is scaled over depth.

    Raises:
        InputError: it is, and no depths are known.
    """
    if not recipe.varies_with_depth:
        return recipe
    if not known:
        raise InputError(
            f"{recipe.method}: lines_beta needs a model with numbered layers, whose depth is in "
            f"the names of their tensors, got {name!r} and none with a number; set it to 0"
        )
    return replace(recipe, depth=known.get(name, 1.0))  # heads may be untied
