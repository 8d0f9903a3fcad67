"""Checks that the anchors of an experiment fit its workload."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from stockpot.config import Experiment
from stockpot.config.space import SpaceSection
from stockpot.distributions.values import Constant
from stockpot.errors import InputError
from stockpot.ingredients.finetuning.anchor_rules import check_anchor, compares_with_anchor
from stockpot.ingredients.finetuning.hyperparameters import Hyperparameters
from stockpot.ingredients.points import Point
from stockpot.workloads.protocol import REFERENCE, Workload, has_reference

_NAMES = ("anchor", "anchor_loss", "anchor_data", "adapter")


def check_anchors(experiment: Experiment, workload: Workload) -> None:
    """Check before any work what would otherwise end every fine-tuning run.

    Raises:
        InputError: an anchor does not fit the workload, or another technique of the same run.
    """
    sweep = experiment.sweep
    spaces = {"sweep.space": sweep.space}
    if sweep.reference and sweep.reference.space:
        spaces["sweep.reference.space"] = sweep.reference.space
    for where, space in spaces.items():
        for point in _combinations(space, sweep.list if where == "sweep.space" else ()):
            try:
                how = Hyperparameters.from_point(point)
                check_anchor(how, workload)
                _check_split(how, workload)
            except InputError as error:
                raise InputError(f"{where}: {error}") from error


def _check_split(how: Hyperparameters, workload: Workload) -> None:
    """Check that a workload has the split that outputs are compared on."""
    if compares_with_anchor(how) and how.anchor_data == REFERENCE and not has_reference(workload):
        raise InputError(
            "anchor_data: reference is a split of workloads of your own whose attribute "
            f"has_reference is True, got {type(workload).__name__}; take train or pretrain"
        )


def _combinations(space: SpaceSection, listed: Sequence[Point]) -> list[Point]:
    """Return points with all combinations of the names that a space has, and those of a list."""
    axes = space.distributions()
    fixed: Point = {"seed": 0}
    for name, axis in axes.items():
        if name not in _NAMES:
            fixed[name] = axis.value if isinstance(axis, Constant) else axis.at(0.0)
    values = [space.names(name) for name in _NAMES]
    chosen = [dict(zip(_NAMES, combined, strict=True)) for combined in itertools.product(*values)]
    points = [fixed | names for names in chosen]
    return [point | one for point in points for one in listed] if listed else points
