"""The order of models by val score, and which one is best."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stockpot.storage.models import Model


def rank(models: Sequence[Model], metric: str) -> list[int]:
    """Return the positions of models from best to worst.

    Ties, which are frequent with few val examples, are broken by lower val loss, if known, then by
    name: the order depends neither on which model was trained first nor, as content keys would, on
    the version of the code.

    Args:
        models: with val scores; higher is better.
        metric: which score, such as `val/accuracy`.
    """

    def place(position: int) -> tuple[float, float, str]:
        model = models[position]
        return -model.scores[metric], model.scores.get("val/loss", math.inf), model.name

    return sorted(range(len(models)), key=place)


def best(models: Sequence[Model], metric: str) -> Model:
    """Return the first model by `rank`; there must be one."""
    return models[rank(models, metric)[0]]


def best_soup(models: Sequence[Model], metric: str) -> Model | None:
    """Return the best soup or tuned soup by `rank`; None without soups.

    The choice is made on val, so that its scores on test stay unbiased. Nets side by side,
    which cost as much as all of them, take part only if there are no other soups.

    Args:
        models: of any kind.
        metric: which score, such as `val/accuracy`.
    """
    soups = [model for model in models if model.kind in ("soup", "tuned")]
    of_one_net = [model for model in soups if model.num_nets == 1]
    return best(of_one_net or soups, metric) if soups else None
