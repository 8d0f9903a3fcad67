"""Methods with scope `model`, which measure all tensors of the models together.

A model is then one long vector: its weights, flattened and concatenated.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Literal

import torch

from stockpot.errors import InputError
from stockpot.merging.recipe import OfModel, Recipe
from stockpot.merging.runs import Run, Runs

Scope = Literal["tensor", "model"]
"""The scope of a method's measurements: each tensor on its own, or the whole model."""


def measure_models(
    recipes: Mapping[str, Recipe],
    runs_of: Callable[[str], Runs],
    measure: Callable[[Recipe, Sequence[str]], Any] | None = None,
) -> dict[str, Recipe]:
    """Measure the models, for recipes with scope `model`.

    Args:
        recipes: recipes of all weights, by tensor name.
        runs_of: name of a tensor -> all of its entries.
        measure: recipe, names of tensors -> the measurements of these together, if they are cached.

    Returns:
        The recipes; those with scope `model` include the measurements.

    Raises:
        InputError: options differ from tensor to tensor, or a tensor is not in all models.
    """
    check_scopes(recipes)
    own = _of_models(recipes)
    if not own:
        return dict(recipes)
    # By name: of equal entries the first count, which must not depend on the order in a file.
    runs = {name: runs_of(name) for name in sorted(own)}
    starts = accumulate((one.size for one in runs.values()), initial=0)
    first = next(iter(own.values()))
    if measure is None:
        measured = first.method_itself.measured(joined(list(runs.values())), [], first.options)
    else:
        measured = measure(first, list(runs))
    of_model = OfModel(measured, dict(zip(runs, starts, strict=False)))
    return dict(recipes) | {name: replace(r, of_model=of_model) for name, r in own.items()}


def check_scopes(recipes: Mapping[str, Recipe]) -> None:
    """Check that tensors with scope `model` can be measured together.

    Args:
        recipes: recipes of all weights, by tensor name.

    Raises:
        InputError: options differ from tensor to tensor, or a tensor is not in all models.
    """
    own = _of_models(recipes)
    for name, recipe in own.items():
        first = own[next(iter(own))]
        if recipe.options != first.options:
            raise InputError(
                f"tensor {name!r}: scope 'model' needs the same options for all tensors, got "
                f"{dict(recipe.options)} and {dict(first.options)}"
            )
        if len(recipe.coefficients) != len(first.coefficients):
            raise InputError(
                f"tensor {name!r}: scope 'model' needs tensors that all models have, got one of "
                f"{len(recipe.coefficients)} models and one of {len(first.coefficients)}"
            )


def is_of_model(recipe: Recipe) -> bool:
    """Whether a recipe has scope `model` and no measurements yet."""
    unmeasured = recipe.of_model is None and recipe.metric is None
    default = recipe.method_itself.options.get("scope")
    return recipe.options.get("scope", default) == "model" and unmeasured


def _of_models(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    return {name: recipe for name, recipe in recipes.items() if is_of_model(recipe)}


def joined(parts: list[Runs]) -> Runs:
    """Concatenate the entries of tensors, at least one, of the same models."""
    starts = list(accumulate((part.size for part in parts), initial=0))

    def read(first: int, last: int, step: int = 1) -> Run:
        overlapping = slice(bisect_right(starts, first) - 1, bisect_left(starts, last))
        found = [
            part.read(max(first - start, 0), min(last - start, part.size), step)
            for start, part in zip(starts[overlapping], parts[overlapping], strict=True)
            if part.size
        ]
        tensors = [
            torch.cat(pieces) for pieces in zip(*(run.tensors for run in found), strict=True)
        ]
        bases = [run.base for run in found if run.base is not None]
        return Run(first, tensors, torch.cat(bases) if bases else None)

    return Runs(parts[0].num_models, starts[-1], read, parts[0].spread, at_once=parts[0].at_once)
