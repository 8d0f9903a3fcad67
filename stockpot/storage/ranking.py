"""The order of ingredients by val score."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stockpot.storage.models import Model


def rank(models: Sequence[Model], metric: str) -> list[int]:
    """Return the positions of models from best to worst.

    Of equal scores, which few val examples make frequent, the one of lower val loss is better,
    where that is known. Models equal in that too are ordered by content key, so that runs agree
    whatever order they were trained in; keys alone would order them anew with each change of code.

    Args:
        models: with val scores; higher is better.
        metric: which score, such as `val/accuracy`.
    """

    def place(position: int) -> tuple[float, float, str]:
        model = models[position]
        return -model.scores[metric], model.scores.get("val/loss", math.inf), model.key

    return sorted(range(len(models)), key=place)
