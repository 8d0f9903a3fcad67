"""Descriptions of several runs with the same names, for a table; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stockpot.ingredients.finetuning.hyperparameters import TECHNIQUES, Value


def with_common_names(described: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
    """Add to each run's description the techniques that any of the runs uses, for a table."""
    names = dict.fromkeys(name for one in described for name in one)
    used = {name: TECHNIQUES[name] for name in names if name in TECHNIQUES}
    return [
        {name: one.get(name, used.get(name, "")) for name in names if name in used or name in one}
        for one in described
    ]
