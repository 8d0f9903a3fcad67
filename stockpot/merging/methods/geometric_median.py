"""Geometric median: the point with the least mean distance (Weiszfeld 1937).

For merging models: Pillutla et al. 2022, https://arxiv.org/abs/1912.13445.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.measurements import depends_on
from stockpot.merging.method import method
from stockpot.merging.methods.linear import linear
from stockpot.merging.methods.shares import positive_shares
from stockpot.merging.methods.task_vectors import check_choice
from stockpot.merging.runs import Run, Runs
from stockpot.merging.whole_model import Scope

_BLOCK = 2**16  # entries; blocks of a few models in float64 fit into the cache
_TIE = 1e-9  # relative; pulls that balance a model's own weight up to it are a tie


@depends_on()
def measure_distances(runs: Runs, *_: object) -> Tensor:
    """Return the squared distances between M models; (M, M), float64."""
    parts = list(runs.map(_squared_distances))
    total = torch.zeros(runs.num_models, runs.num_models, dtype=torch.float64)
    return sum((part.cpu() for part in parts), total)


def _squared_distances(run: Run) -> Tensor:
    count = len(run.tensors)
    total = torch.zeros(count, count, dtype=torch.float64, device=run.tensors[0].device)
    for start in range(0, run.tensors[0].numel(), _BLOCK):
        rows = torch.stack([each[start : start + _BLOCK] for each in run.tensors]).double()
        for place in range(count - 1):
            total[place, place + 1 :] += (rows[place + 1 :] - rows[place]).square().sum(dim=1)
    return total + total.T


@method("geometric_median", is_elementwise=True, measure=measure_distances)
def geometric_median(
    tensors: Sequence[Tensor],
    coefficients: Sequence[float],
    *,
    max_iter: int = 1000,
    tol: float = 1e-10,
    scope: Scope = "tensor",
    measured: Tensor | None = None,
) -> Tensor:
    """Find the point with the least weighted sum of distances to the models.

    Unlike the mean, it stays among the models if less than half of them, by coefficients, are
    arbitrarily far away.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        coefficients: M numbers of at least 0, in the order of `tensors`, not all 0.
        max_iter: maximum number of steps, at least 1.
        tol: step length, relative to the largest distance of two models, below which the search
            stops, above 0.
        scope: distances are those of each `tensor`, or of the whole `model`.
        measured: squared distances (M, M) of the whole tensors, where the tensors are parts of
            larger ones.

    Returns:
        The merged tensor; shape and dtype of the inputs. A model in which the median lies is
        returned bit for bit. Of two models with equal coefficients, where every point between them
        is a median, their mean.

    Raises:
        ValueError: an option or a coefficient is out of its range, or all coefficients are 0.

    Source: Weiszfeld's iteration from the weighted mean, with the step of Vardi & Zhang 2000
    (https://doi.org/10.1073/pnas.97.4.1423) at models. It is over the coefficients of the models,
    in float64, from their distances: one pass over the weights for any number of steps.
    """
    if not max_iter >= 1:
        raise ValueError(f"geometric_median: max_iter must be at least 1, got {max_iter}")
    if not tol > 0:
        raise ValueError(f"geometric_median: tol must be above 0, got {tol}")
    check_choice("geometric_median", "scope", scope, Scope)
    parts = torch.tensor(positive_shares("geometric_median", coefficients), dtype=torch.float64)
    squares = measure_distances(Runs.of(tensors)) if measured is None else measured
    found = _at_model(parts, squares)
    if found is None:
        found = _weiszfeld(parts, squares, max_iter, tol)
    used = [place for place, weight in enumerate(found.tolist()) if weight != 0]
    return linear([tensors[place] for place in used], found[used].tolist())


def _at_model(parts: Tensor, squares: Tensor) -> Tensor | None:
    """Return the coefficients (M,) of the median if it lies in a model, else None.

    It does if the pull of the others, the sum of unit vectors, is less than its own weight.
    """
    for place in range(len(parts)):
        distances = squares[place].sqrt()
        pulls = (parts / distances).where(distances > 0, 0)
        cosines = (squares[place] + squares[place][:, None] - squares) / 2  # inner products
        pull = (pulls @ cosines @ pulls).clamp(min=0).sqrt()
        if pull < parts[distances == 0].sum() * (1 - _TIE):
            return torch.zeros_like(parts).index_fill(0, torch.tensor(place), 1)
    return None


def _weiszfeld(parts: Tensor, squares: Tensor, max_iter: int, tol: float) -> Tensor:
    """Return the coefficients (M,) of a median that lies in no model."""
    found, shortest = parts, tol * float(squares.max().sqrt())
    for _ in range(max_iter):
        # Of a point with coefficients w: |x_i - y|^2 = (D w)_i - w D w / 2, D squared distances.
        towards = squares @ found
        distances = (towards - found @ towards / 2).clamp(min=0).sqrt()
        is_here = distances <= shortest
        pulls = (parts / distances).where(~is_here, 0)
        target = pulls / pulls.sum()
        step = target - found
        length = float((-(step @ squares @ step) / 2).clamp(min=0).sqrt())
        own = float(parts[is_here].sum())
        stay = min(1.0, own / (float(pulls.sum()) * length)) if own and length else 0.0
        found = found + (1 - stay) * step
        if length <= shortest:
            break
    return found
