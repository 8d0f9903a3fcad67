"""Merging state dicts, or models on disk, by any method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from stockpot.api.arguments import finite_number, list_of_models
from stockpot.disk_merging.job import MergeJob
from stockpot.disk_merging.merge_files.merge_file import MergeFile
from stockpot.disk_merging.planning.depth_scaling import by_depth
from stockpot.errors import InputError
from stockpot.merging.engine import merge_states
from stockpot.merging.recipe import Recipe
from stockpot.merging.registry import METHODS
from stockpot.merging.states import State
from stockpot.yaml_files import validated


@overload
def merge(
    models: Sequence[State],
    method: str = ...,
    *,
    base: State | None = ...,
    coefficients: Sequence[float] | None = ...,
    seed: int = ...,
    **options: Any,
) -> dict[str, Tensor]: ...


@overload
def merge(
    models: Sequence[str | Path],
    method: str = ...,
    *,
    output: str | Path,
    base: str | Path | None = ...,
    coefficients: Sequence[float] | None = ...,
    seed: int = ...,
    **options: Any,
) -> Path: ...


def merge(
    models: Sequence[State] | Sequence[str | Path],
    method: str = "linear",
    *,
    output: str | Path | None = None,
    base: State | str | Path | None = None,
    coefficients: Sequence[float] | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor] | Path:
    """Merge models by a merge method.

    Args:
        models: M state dicts with the same tensor names and shapes; or M paths of models on disk
            (folders, `.safetensors` or PyTorch files, or `model+adapter`), which may be larger
            than the memory.
        method: a merge method, as `stockpot merge --methods` lists them, or `module:function`.
        output: of models on disk, where the merged model is written: a folder, or a file whose
            name ends in `.safetensors`.
        base: the model that the others were fine-tuned from, for methods that use it.
        coefficients: M numbers, one per model; by default 1 each. `linear` divides by their sum.
        seed: of methods that draw random numbers.
        **options: of the method, e.g. `density=0.3` of `ties`; for those that may differ between
            models also M values, `density=[0.3, 0.5]`.

    Returns:
        The merged state dict, in the dtype of the first model; or `output`, as a path.

    Raises:
        InputError: the models do not fit together, or the method cannot merge them this way.

    Example:
        >>> import torch, stockpot
        >>> models = [{"weight": torch.tensor([1.0, 2.0])}, {"weight": torch.tensor([3.0, 6.0])}]
        >>> stockpot.merge(models)
        {'weight': tensor([2., 4.])}
        >>> stockpot.merge(models, coefficients=[3, 1])
        {'weight': tensor([1.5000, 3.0000])}
        >>> base = {"weight": torch.zeros(2)}
        >>> stockpot.merge(models, "task_arithmetic", base=base, coefficients=[0.5, 0.5])
        {'weight': tensor([2., 4.])}
    """
    models = list_of_models(models)  # type: ignore[assignment]  # a list of either kind
    on_disk = [isinstance(model, str | Path) for model in models]
    if any(on_disk) != all(on_disk):
        raise InputError("merge: models must be all state dicts or all paths, got both")
    shares = _shares(coefficients, len(models))
    if all(on_disk):
        if output is None:
            raise InputError("merge: output is required for models on disk, got nothing")
        content = _file_content(models, method, shares, options) | {"seed": seed}
        content |= {} if base is None else {"base": str(base)}
        return _merged_on_disk(content, Path(output))
    if output is not None:
        raise InputError("merge: output is for models on disk, got state dicts")
    recipe = Recipe(method, shares, options, seed)
    recipe.check(has_base=base is not None)
    deep = by_depth(recipe, models[0])  # type: ignore[arg-type]  # all are state dicts
    return merge_states(models, deep, base)  # type: ignore[arg-type]  # all are state dicts


def _differing_options(
    method: str, options: Mapping[str, Any], num_models: int
) -> dict[str, Sequence[float]]:
    """Return the options with one value per model."""
    found: dict[str, Sequence[float]] = {
        name: value
        for name, value in options.items()
        if isinstance(value, list | tuple) and name in METHODS[method].per_model
    }
    for name, values in found.items():
        if len(values) != num_models:
            raise InputError(
                f"merge: {name} must be a number, or one per model, got {len(values)} for "
                f"{num_models} models"
            )
    return found


def _shares(coefficients: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Return the coefficients of models, by default 1 each."""
    given = [1.0] * count if coefficients is None else coefficients
    shares = tuple(finite_number("merge: coefficient", value) for value in given)
    if len(shares) != count:
        raise InputError(
            f"merge: coefficients must be one per model, got {len(shares)} for {count} models"
        )
    return shares


def _file_content(
    paths: Sequence[Any], method: str, shares: Sequence[float], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of a merge file for models on disk."""
    differing = _differing_options(method, options, len(paths))
    entries = [
        {
            "path": str(path),
            "coefficient": share,
            "options": {name: values[place] for name, values in differing.items()},
        }
        for place, (path, share) in enumerate(zip(paths, shares, strict=True))
    ]
    shared = {name: value for name, value in options.items() if name not in differing}
    return {"method": method, "models": entries, "options": shared}


def _merged_on_disk(content: dict[str, Any], place: Path) -> Path:
    """Merge as a merge file of this content says; return the place."""
    job = MergeJob(validated(MergeFile, content, "merge"), Path(), place)
    job.check()
    job.run(lambda _num_bytes: None)
    return job.place
