"""Checks that the sweep makes the kind of ingredients that soups need."""

from __future__ import annotations

from stockpot.config import Experiment
from stockpot.errors import InputError
from stockpot.experiment.jobs.soups import merges_along_run

_AS_LORA = {"lora", "miss"}  # adapters that are saved as LoRA


def check_runs(experiment: Experiment) -> None:
    """Check before any work what would otherwise end a soup after the sweep.

    Raises:
        InputError: a soup merges along runs, and nothing is saved along them nor imported; or it
            merges adapters, and an ingredient will have none.
    """
    sweep = experiment.sweep
    adapters = {str(name) for name in sweep.space.names("adapter")}
    adapters |= {str(point["adapter"]) for point in sweep.list if "adapter" in point}
    for recipe in experiment.soups:
        has_some = sweep.snapshots or sweep.imports
        if not has_some and merges_along_run(recipe.merge_method):
            raise InputError(
                f"soups: {recipe.name!r}: {recipe.merge_method} merges checkpoints along one run, "
                "got sweep.snapshots 0; set it, or import checkpoints by sweep.import"
            )
        merges_adapters = recipe.merge_exceptions["core_space"]
        if merges_adapters and not recipe.ingredients and not adapters <= _AS_LORA:
            raise InputError(
                f"soups: {recipe.name!r}: core_space merges LoRA adapters, got the adapters "
                f"{sorted(adapters)} in the sweep; set sweep.space.adapter to lora, or name the "
                "ingredients that have one"
            )
