"""The order of checkpoints of one training run, for methods that merge along it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from stockpot.errors import InputError
from stockpot.storage.models import Model

_STEPS = ("step", "global_step", "epoch")  # hyperparameters of imported checkpoints
_LAST_NUMBER = re.compile(r"(\d+)(?!.*\d)")


def in_run_order(method: str, models: Sequence[Model]) -> tuple[Model, ...]:
    """Return checkpoints of one run, the oldest first.

    Those trained here know their epoch. An imported one has a hyperparameter `step`,
    `global_step` or `epoch`; otherwise the last number in its name is its step.

    Args:
        method: the merge method, for errors.
        models: the checkpoints.

    Raises:
        InputError: they are of several runs, or their order is unknown.
    """
    imported = [model for model in models if "imported" in model.details]
    if imported:
        if len(imported) < len(models):
            raise _several_runs(method, models, "imported ones and others")
    else:
        first = models[0].details.get("hyperparameters")
        is_one_run = all(
            m.details.get("hyperparameters") == first and "rounds" not in m.details for m in models
        )
        if first is None or not is_one_run:
            raise _several_runs(method, models, "models of several runs")
    steps = {model.name: _step_of(method, model) for model in models}
    twice = [step for step, count in Counter(steps.values()).items() if count > 1]
    if twice:
        same = [name for name, step in steps.items() if step == twice[0]]
        raise _several_runs(method, models, f"{same}, which are both of step {twice[0]:g}")
    return tuple(sorted(models, key=lambda model: steps[model.name]))


def _step_of(method: str, model: Model) -> float:
    known = model.details.get("hyperparameters") or {}
    if "imported" not in model.details:
        if "epoch" in model.details:
            return float(model.details["epoch"])
        if "patience" not in known:  # which restores the weights of the best epoch
            return float(known["epochs"])
        raise InputError(
            f"{method}: must know the step of each checkpoint, got none for {model.name}, whose "
            "weights are of its best epoch (patience); choose snapshots alone"
        )
    steps = [known[name] for name in _STEPS if isinstance(known.get(name), int | float)]
    if steps:
        return float(steps[0])
    number = _LAST_NUMBER.search(model.name)
    if number is None:
        raise InputError(
            f"{method}: must know the step of each checkpoint, got none for {model.name}; write it "
            'into hyperparameters.json next to the weights, e.g. {"step": 500}, or into the name'
        )
    return float(number.group(1))


def _several_runs(method: str, models: Sequence[Model], found: str) -> InputError:
    names = [model.name for model in models]
    return InputError(
        f"{method}: merges checkpoints of one run, got {found} in {names[:4]}; choose those of a "
        "run by `ingredients`, such as [ingredient-03*], with sweep.snapshots"
    )
