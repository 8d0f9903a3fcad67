"""How far a soup's outputs are from those of the ensemble of its own ingredients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from stockpot.merging.methods.inner_products import task_vector_gram
from stockpot.merging.states import State
from stockpot.storage.models import Model


def soup_ensemble_gap(
    soup: Tensor, outputs: Sequence[Tensor], coefficients: Sequence[float], base: Tensor
) -> tuple[float, float | None]:
    """Return how far a soup's outputs are from the weighted average of its models' outputs.

    Args:
        soup: (N, C).
        outputs: of M models, each (N, C).
        coefficients: M numbers; what they lack to 1 is the base's.
        base: the base's outputs; (N, C).

    Returns:
        The root mean square of the difference, and its ratio to that between the average and the
        base; None if these are equal.
    """
    own = base.double()
    pairs = zip(coefficients, outputs, strict=True)
    change = sum((c * (one.double() - own) for c, one in pairs), torch.zeros(()))
    gap = float((soup.double() - own - change).square().mean().sqrt())
    moved = float(change.square().mean().sqrt())
    return gap, gap / moved if moved else None


def own_coefficients(
    soup: Model, weights: State, base: State, ingredients: Mapping[str, State]
) -> dict[str, float]:
    """Return the coefficients of a soup's ingredients, with which it is nearest to a mean.

    A linear soup has recorded them. The weights of any other one, such as a WiSE-FT soup, are
    projected onto the base plus multiples of its ingredients' task vectors: this gives the true
    coefficients of every soup that is of this form, with any scale, and the nearest ones of others.

    Args:
        soup: its record has the ingredients.
        weights: of the soup.
        base: the model that the ingredients were fine-tuned from.
        ingredients: the weights of all ingredients by name.

    Returns:
        A number for each of its ingredients; what they lack to 1 is the base's.
    """
    recorded: Mapping[str, float] = soup.details["coefficients"]
    method = soup.details.get("recipe", {}).get("method", "linear")
    total = sum(recorded.values())
    if method == "linear" and "layer_coefficients" not in soup.details and total:
        return {name: value / total for name, value in recorded.items()}
    gram = task_vector_gram([*(ingredients[name] for name in recorded), weights], base)
    solved = torch.linalg.lstsq(gram[:-1, :-1], gram[:-1, -1:], driver="gelsd").solution
    return dict(zip(recorded, solved.squeeze(1).tolist(), strict=True))
