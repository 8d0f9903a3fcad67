"""Checks that corruptions of an experiment are its workload's, and that soups find them."""

from __future__ import annotations

from collections.abc import Iterable

from stockpot.config import Experiment
from stockpot.errors import InputError, unknown_name
from stockpot.ingredients.finetuning.hyperparameters import Value
from stockpot.merging.signature_layers import SIGNATURES
from stockpot.workloads.protocol import Workload, corrupt_of


def check_corruptions(experiment: Experiment, workload: Workload) -> None:
    """Check before any work what would otherwise end fine-tuning runs, or a soup.

    Raises:
        InputError: the workload has no such corruption, or a soup by weight signatures would have
            no clean or no corrupted ingredients.
    """
    sweep = experiment.sweep
    found: dict[Value, str] = {}
    if sweep.size != 0:
        found |= dict.fromkeys(sweep.space.names("corruption"), "sweep.space")
        listed = [point["corruption"] for point in sweep.list if "corruption" in point]
        found |= dict.fromkeys(listed, "sweep.list")
    if sweep.reference and sweep.reference.space:
        names = sweep.reference.space.names("corruption")
        found |= dict.fromkeys(names, "sweep.reference.space")
    for name, where in found.items():
        if name != "none":
            _check_known(str(name), where, workload)
    if not sweep.imports:  # whose hyperparameters are read with them
        _check_soups(experiment, found)


def _check_known(name: str, where: str, workload: Workload) -> None:
    try:
        corrupt_of(workload)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    known: Iterable[str] | None = getattr(workload, "shift_names", None)
    if known is not None and name not in known:
        raise InputError(f"{where}: {unknown_name('corruption', name, [*known, 'none'])}")


def _check_soups(experiment: Experiment, found: Iterable[Value]) -> None:
    names = sorted(map(str, found))
    for recipe in experiment.soups:
        if recipe.merge_method == SIGNATURES and ("none" not in names or len(names) < 2):
            raise InputError(
                f"soups: {recipe.name!r}: {SIGNATURES} needs ingredients trained on clean and on "
                f"corrupted data, got the corruptions {names or ['none']}; set "
                "sweep.space.corruption to {choice: [none, noise]}, for example"
            )
