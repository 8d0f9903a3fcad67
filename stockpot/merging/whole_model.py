"""Methods that measure all tensors of the models together, where others measure each by itself.

A model is then one long vector: its weights, flattened and put end to end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Literal, get_args

import torch

from stockpot.errors import InputError
from stockpot.merging.recipe import OfModel, Recipe
from stockpot.merging.runs import Run, Runs

Scope = Literal["tensor", "model"]
"""What a method measures: each tensor by itself, or the whole model."""


def check_scope(method: str, scope: str) -> None:
    """Refuse a scope that there is not."""
    if scope not in get_args(Scope):
        raise ValueError(f"{method}: scope must be one of {sorted(get_args(Scope))}, got {scope!r}")


def measure_models(
    recipes: Mapping[str, Recipe], runs_of: Callable[[str], Runs]
) -> dict[str, Recipe]:
    """Measure the models, for recipes whose scope is the model.

    Args:
        recipes: of all weights, by the tensor's name.
        runs_of: name of a tensor -> all of its entries.

    Returns:
        The recipes; those whose scope is the model with what was measured.

    Raises:
        InputError: options differ from tensor to tensor, or a tensor is not in all models.
    """
    check_scopes(recipes)
    own = _of_models(recipes)
    if not own:
        return dict(recipes)
    runs = {name: runs_of(name) for name in own}
    starts = accumulate((one.size for one in runs.values()), initial=0)
    first = next(iter(own.values()))
    measured = first.method_itself.measured(joined(list(runs.values())), [], first.options)
    of_model = OfModel(measured, dict(zip(runs, starts, strict=False)))
    return dict(recipes) | {name: replace(r, of_model=of_model) for name, r in own.items()}


def check_scopes(recipes: Mapping[str, Recipe]) -> None:
    """Refuse tensors that cannot be measured together, though the scope is the model.

    Args:
        recipes: of all weights, by the tensor's name.

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
    """Whether the scope of a recipe is the model, which was not measured yet."""
    return recipe.options.get("scope") == "model" and recipe.of_model is None


def _of_models(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    return {name: recipe for name, recipe in recipes.items() if is_of_model(recipe)}


def joined(parts: list[Runs]) -> Runs:
    """Put tensors end to end, at least one; all have the same models."""
    starts = list(accumulate((part.size for part in parts), initial=0))

    def read(first: int, last: int) -> Run:
        position = bisect_right(starts, first) - 1
        found = []
        while position < len(parts) and starts[position] < last:
            start, part = starts[position], parts[position]
            if part.size:
                found.append(part.read(max(first - start, 0), min(last - start, part.size)))
            position += 1
        tensors = [
            torch.cat(pieces) for pieces in zip(*(run.tensors for run in found), strict=True)
        ]
        bases = [run.base for run in found if run.base is not None]
        return Run(first, tensors, torch.cat(bases) if bases else None)

    return Runs(parts[0].num_models, starts[-1], read, parts[0].spread)
