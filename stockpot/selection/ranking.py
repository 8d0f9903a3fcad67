"""The order of ingredients by val score."""

from __future__ import annotations

from collections.abc import Sequence

from stockpot.models import Model


def rank(models: Sequence[Model], metric: str) -> list[int]:
    """Return the positions of models from best to worst.

    Equal scores are ordered by content key, so that runs agree whatever order the models were
    trained in.

    Args:
        models: with val scores; higher is better.
        metric: which score, such as `val/accuracy`.
    """
    return sorted(range(len(models)), key=lambda p: (-models[p].scores[metric], models[p].key))
