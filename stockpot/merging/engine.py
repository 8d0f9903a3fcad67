"""The loop over tensors: merge state dicts in memory, or checkpoint files tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial, reduce
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from stockpot.errors import InputError
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.merging.runs import Run, Runs
from stockpot.merging.tensor_rules import check_shapes, merge_running_vars, merge_tensor
from stockpot.merging.whole_model import is_of_model, measure_models

_VAR, _MEAN = "running_var", "running_mean"

Reader = Callable[[str], Tensor]


def merge_states(
    states: Sequence[Mapping[str, Tensor]],
    recipe: Recipe | RecipeOf,
    base: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Merge state dicts in memory; inputs are not changed.

    A tensor that all models hold under several names, such as a head tied to its embedding, is
    merged once, by the first name, and tied again.

    Args:
        states: M models.
        recipe: the recipe, with M coefficients; or a function from tensor names to recipes.
        base: the model that they were fine-tuned from, for methods that use it.

    Raises:
        InputError: names, shapes or values do not fit; the message names the tensor.
    """
    readers = [state.__getitem__ for state in states]
    base_reader = None if base is None else base.__getitem__
    first_of = first_names(states, base)
    measured = _measured(_recipes(recipe, first_of.values()), readers, base_reader)
    merged = {n: _merge_named(n, readers, base_reader, one) for n, one in measured.items()}
    return {name: merged[first] for name, first in first_of.items()}


def measure_states(
    states: Sequence[Mapping[str, Tensor]],
    recipe: Recipe | RecipeOf,
    base: Mapping[str, Tensor] | None = None,
) -> dict[str, Recipe]:
    """Return the recipe of each tensor, with measurements of the whole models.

    Merges by these recipes, also with other coefficients, do not measure again.

    Args:
        states: M models.
        recipe: as for `merge_states`.
        base: the model that they were fine-tuned from, for methods that use it.

    Raises:
        InputError: names differ.
    """
    readers = [state.__getitem__ for state in states]
    recipes = _recipes(recipe, first_names(states, base).values())
    return _measured(recipes, readers, None if base is None else base.__getitem__)


def first_names(
    states: Sequence[Mapping[str, Tensor]], base: Mapping[str, Tensor] | None = None
) -> dict[str, str]:
    """Return, for each name, the first name under which all models hold the same tensor.

    Raises:
        InputError: names differ.
    """
    names = common_names([state.keys() for state in (*states, *([] if base is None else [base]))])
    first_name: dict[Any, str] = {}
    return {
        name: first_name.setdefault(tuple(_place(state[name], name) for state in states), name)
        for name in names
    }


def _place(tensor: Tensor, name: str) -> Any:
    """Return a value that is equal for two names of one tensor; for an empty one, its name."""
    if not tensor.numel():
        return name
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def merge_files(
    paths: Sequence[Path], recipe: Recipe | RecipeOf, base: Path | None = None
) -> dict[str, Tensor]:
    """Merge safetensors files, with one tensor of every model in memory at a time.

    Args:
        paths: M files.
        recipe: the recipe, with M coefficients; or a function from tensor names to recipes.
        base: the model that they were fine-tuned from, for methods that use it.

    Raises:
        InputError: names, shapes or values do not fit; the message names the tensor.
    """
    with ExitStack() as stack:
        opened = [
            stack.enter_context(safe_open(path, framework="pt"))
            for path in (*paths, *([] if base is None else [base]))
        ]
        recipes = _recipes(recipe, common_names([file.keys() for file in opened]))
        for different in {id(one): one for one in recipes.values()}.values():
            different.check(has_base=base is not None)
        readers = [file.get_tensor for file in opened[: len(paths)]]
        base_reader = None if base is None else opened[-1].get_tensor
        measured = _measured(recipes, readers, base_reader)
        return {n: _merge_named(n, readers, base_reader, one) for n, one in measured.items()}


def _recipes(recipe: Recipe | RecipeOf, names: Iterable[str]) -> dict[str, Recipe]:
    recipes = {name: recipe if isinstance(recipe, Recipe) else recipe(name) for name in names}
    for different in {id(one): one for one in recipes.values()}.values():
        different.check_names(recipes.keys())
    return recipes


def _measured(
    recipes: Mapping[str, Recipe], readers: Sequence[Reader], base_reader: Reader | None
) -> dict[str, Recipe]:
    weights = {
        name: recipe
        for name, recipe in recipes.items()
        if is_of_model(recipe) and "running_" not in name and readers[0](name).is_floating_point()
    }
    return {**recipes, **measure_models(weights, partial(_runs_of, readers, base_reader))}


def _runs_of(readers: Sequence[Reader], base_reader: Reader | None, name: str) -> Runs:
    """Return all entries of a tensor, read again for each run, so that none stays in memory."""

    def read(first: int, last: int) -> Run:
        parts = [reader(name).reshape(-1)[first:last] for reader in all_readers]
        dtype = reduce(torch.promote_types, (part.dtype for part in parts), torch.float32)
        wide = [part.to(dtype) for part in parts]
        return Run(first, wide[: len(readers)], wide[-1] if base_reader else None)

    all_readers = [*readers, *([base_reader] if base_reader else [])]
    shapes = [reader(name).shape for reader in all_readers]
    check_shapes(name, shapes)
    return Runs(len(readers), shapes[0].numel(), read)


def _merge_named(
    name: str, readers: Sequence[Reader], base_reader: Reader | None, recipe: Recipe
) -> Tensor:
    """Merge one tensor of all models; a BatchNorm variance also reads its means."""
    tensors = [read(name) for read in readers]
    if name.endswith(_VAR):
        means = [read(name.removesuffix(_VAR) + _MEAN) for read in readers]
        return merge_running_vars(name, tensors, means, recipe.shares)
    return merge_tensor(name, tensors, recipe, None if base_reader is None else base_reader(name))


def common_names(names_per_model: Sequence[Iterable[str]]) -> list[str]:
    """Require equal names in all models, and return them in the order of the first."""
    first = list(names_per_model[0])
    for position, names in enumerate(names_per_model):
        differ = sorted(set(first) ^ set(names))
        if differ:
            raise InputError(
                f"model {position}: tensors {differ[:3]} are not in both it and model 0; "
                "merge models of one base"
            )
    return first
