"""Soups in Core Space, of ingredients that were trained with LoRA (Panariello et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stockpot.disk_merging.adapters.adapter_job import check_mergeable
from stockpot.disk_merging.adapters.core_space import cores_of, merge_cores
from stockpot.errors import InputError
from stockpot.merging.recipe import Recipe, RecipeOf
from stockpot.merging.states import State, StateDict
from stockpot.storage.checkpoints import verify
from stockpot.storage.models import Model
from stockpot.storage.store import Store
from stockpot.storage.weights.adapters import Adapter, open_adapter


def merge_in_core_space(
    root: Path, models: Sequence[Model], base: State, recipe: Recipe | RecipeOf
) -> StateDict:
    """Merge the adapters of ingredients, and apply the merged one to the base.

    Args:
        root: the project root.
        models: the ingredients, next to whose weights their adapters are saved.
        base: the weights that they were trained from.
        recipe: the recipe, with a coefficient per ingredient.

    Returns:
        The weights, in the base's dtypes; tensors that no adapter changes are the base's.

    Raises:
        InputError: an ingredient has no LoRA adapter, or the method cannot merge them.
    """
    adapters = [_adapter_of(root, model) for model in models]
    for adapter in adapters:
        check_mergeable(adapter, adapters[0])
    modules = dict.fromkeys(module for adapter in adapters for module in adapter.changes)
    cores = {f"{module}.weight": cores_of(module, adapters) for module in modules}
    merged = dict(base)
    for name, (a, b) in merge_cores(cores, recipe).items():
        change = b.flatten(1) @ a.flatten(1)  # (out, in)
        module = name.removesuffix(".weight")
        is_embedding = any(
            adapter.changes[module].is_embedding
            for adapter in adapters
            if module in adapter.changes
        )
        whole = (change.T if is_embedding else change).reshape(base[name].shape)
        merged[name] = (base[name].double() + whole).to(base[name].dtype)
    return merged


def _adapter_of(root: Path, model: Model) -> Adapter:
    files = Store.adapter_files(verify(root, model.checkpoint))
    if not files:
        raise InputError(
            f"core_space: needs ingredients with a LoRA adapter, got {model.name} without one; "
            "train all of them with sweep.space.adapter: lora"
        )
    return open_adapter(files[0].parent)
