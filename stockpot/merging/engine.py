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
from stockpot.merging.measurements import Asked, Measurements
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.merging.runs import Run, Runs, in_rows
from stockpot.merging.tensor_rules import (
    check_finite,
    check_shapes,
    merge_running_vars,
    merge_tensor,
)
from stockpot.merging.whole_model import joined, measure_models

_VAR, _MEAN = "running_var", "running_mean"

Reader = Callable[[str], Tensor]


def merge_states(
    states: Sequence[Mapping[str, Tensor]],
    recipe: Recipe | RecipeOf,
    base: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Merge state dicts in memory; inputs are not changed.

    Args:
        states: M models.
        recipe: the recipe, with M coefficients; or a function from tensor names to recipes.
        base: the model that they were fine-tuned from, for methods that use it.

    Raises:
        InputError: names, shapes or values do not fit; the message names the tensor.
    """
    return StateMerger(states, base).merge(recipe)


class StateMerger:
    """Merges of M models in memory, for many candidates: nothing is measured or checked twice.

    The models must not be changed meanwhile.
    """

    def __init__(
        self, states: Sequence[Mapping[str, Tensor]], base: Mapping[str, Tensor] | None = None
    ) -> None:
        """Hold the models.

        Args:
            states: M models.
            base: the model that they were fine-tuned from, for methods that use it.
        """
        self._states, self._base = states, base
        self._measurements = Measurements()
        self._finite: set[tuple[int, str]] = set()

    def merge(
        self, recipe: Recipe | RecipeOf, models: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Merge some of the models.

        A tensor that these hold under several names, such as a head tied to its embedding, is
        merged once, by the first name, and tied again.

        Args:
            recipe: the recipe, with a coefficient per model; or a function from tensor names to
                recipes.
            models: positions of models, in the order of the merge; None for all.

        Raises:
            InputError: names, shapes or values do not fit; the message names the tensor.
        """
        chosen = range(len(self._states)) if models is None else models
        states = [self._states[model] for model in chosen]
        readers = [state.__getitem__ for state in states]
        base_reader = None if self._base is None else self._base.__getitem__
        first_of = first_names(states, self._base)
        recipes = _recipes(recipe, first_of.values())

        def runs_of(name: str, places: Sequence[int]) -> Runs:
            one = recipes[name]
            row_of = one.row if one.of_model is None else _no_row
            own_base = base_reader if one.method_itself.takes_base else None
            return _runs_of([readers[place] for place in places], own_base, name, row_of)

        def of_model(one: Recipe, names: Sequence[str]) -> Any:
            def all_runs(places: Sequence[int]) -> Runs:
                return joined([runs_of(name, places) for name in names])

            return self._measurements.of(Asked(tuple(names), one, chosen, all_runs))

        def of_tensor(name: str, one: Recipe) -> Any:
            draws, own = one.draws(name), partial(runs_of, name)
            return self._measurements.of(Asked(name, one, chosen, own, draws))

        weights = _weights(recipes, readers[0])
        every = range(len(chosen))
        recipes |= measure_models(weights, lambda name: runs_of(name, every), of_model)
        merged = {}
        for name, one in recipes.items():
            if name in weights and _merges_in_runs(one) and _is_in_ram(states, name):
                self._check(name, chosen)
                measured = one.of_model.measured if one.of_model else of_tensor(name, one)
                runs = runs_of(name, every)
                merged[name] = _merge_runs(name, one, runs, measured, states[0][name])
            else:
                merged[name] = _merge_named(name, readers, base_reader, one)
        return {name: merged[first] for name, first in first_of.items()}

    def _check(self, name: str, chosen: Sequence[int]) -> None:
        """Check the values of a tensor, unless it was done for all of these models."""
        if any((model, name) not in self._finite for model in chosen):
            base = [] if self._base is None else [self._base[name]]
            check_finite(name, [*(self._states[model][name] for model in chosen), *base])
            self._finite |= {(model, name) for model in chosen}


def _merge_runs(name: str, recipe: Recipe, runs: Runs, measured: Any, first: Tensor) -> Tensor:
    """Merge a tensor run by run, whose temporaries fit into the cache; in the dtype of `first`."""
    merged = torch.empty(runs.size, dtype=first.dtype)
    for start, end in runs.bounds:
        merged[start:end] = recipe.merge_run(name, runs.read(start, end), measured).reshape(-1)
    return merged.view(first.shape)


def _merges_in_runs(recipe: Recipe) -> bool:
    return recipe.is_elementwise and recipe.method_itself.side_information is None


def _is_in_ram(states: Sequence[Mapping[str, Tensor]], name: str) -> bool:
    """Whether runs of a tensor are views; on an accelerator, few large operations are faster."""
    tensors = [state[name] for state in states]
    return all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors)


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
    weights = _weights(recipes, readers[0])
    return {**recipes, **measure_models(weights, partial(_runs_of, readers, base_reader))}


def _weights(recipes: Mapping[str, Recipe], reader: Reader) -> dict[str, Recipe]:
    """Return the recipes of what methods merge: neither integers nor BatchNorm statistics."""
    return {
        name: recipe
        for name, recipe in recipes.items()
        if "running_" not in name and reader(name).is_floating_point()
    }


def _no_row(_shape: Sequence[int]) -> None:
    """Return no row: runs are of any entries."""


def _runs_of(
    readers: Sequence[Reader],
    base_reader: Reader | None,
    name: str,
    row_of: Callable[[Sequence[int]], int | None] = _no_row,
) -> Runs:
    """Return all entries of a tensor, read again for each run, so that none stays in memory.

    Args:
        readers: of M models.
        base_reader: of the base, if there is one.
        name: the tensor's name.
        row_of: its shape -> the entries of a row, if runs must be of whole rows.
    """

    def read(first: int, last: int, step: int = 1) -> Run:
        parts = [reader(name).reshape(-1)[first:last:step] for reader in all_readers]
        dtype = reduce(torch.promote_types, (part.dtype for part in parts), torch.float32)
        wide = [in_rows(part.to(dtype), row) for part in parts]
        return Run(first, wide[: len(readers)], wide[-1] if base_reader else None)

    all_readers = [*readers, *([base_reader] if base_reader else [])]
    shapes = [reader(name).shape for reader in all_readers]
    check_shapes(name, shapes)
    row = row_of(shapes[0])
    return Runs(len(readers), shapes[0].numel(), read, row=row)


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
