"""CAT Merging: conflict-aware task merging (Sun et al. 2025, https://arxiv.org/abs/2505.06977)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from stockpot.merging.method import method
from stockpot.merging.methods.task_vectors import check_scale, sum_weighted
from stockpot.merging.search_ranges import Scale, SearchRange

_NOISE = 1e-12  # of the largest eigenvalue; smaller ones are rounding errors


@method("cat", is_symmetric=False)
def cat(
    tensors: Sequence[Tensor],
    base: Tensor,
    features: Sequence[Tensor | None],
    coefficients: Sequence[float],
    *,
    rank: int = 2,
    balance: Annotated[float, SearchRange(0.5, 50.0, is_log=True)] = 5.0,
    scale: Scale = 1.0,
) -> Tensor:
    """Remove from each task vector what disturbs the other models' features, and sum the rest.

    For a layer's weights, the directions of the outputs in which the task vectors of the others
    change most on model k's inputs, relative to their own, are projected out of these task vectors;
    for the scale of a norm, entries are set to 0 by the same measure; for other vectors, such as
    biases, those in which the others change most.

    Args:
        tensors: M same-named tensors, one per model; one shape, float32 or float64.
        base: the tensor that they were fine-tuned from; same shape and dtype.
        features: for each model, in the order of `tensors`, the mean over the layer's inputs x of
            x times x transposed, float64: (G, D, D), where a tensor is G groups of outputs with D
            weights each; or its diagonal (G, D); for the scale of a norm, the mean squares (D,).
            None for other tensors: those of more axes than one are not trimmed.
        coefficients: M numbers, applied after trimming; 1 each is the paper's method.
        rank: number of directions, or of entries, that each model removes from the others, at
            least 1 (the paper's c).
        balance: weight of a task vector's effect on its own inputs, which is to be kept, against
            that on model k's, at least 0 (the paper's lambda).
        scale: finite factor on the sum (the paper's alpha).

    Returns:
        The merged tensor; shape and dtype of the inputs. For a single model, task arithmetic.

    Raises:
        ValueError: an option is out of its range.

    Source: Algorithm 1, with features of each model on the same inputs. Only directions and
    scales whose removal is a gain are removed (positive eigenvalues), which may be fewer than
    `rank`. Models remove in their order, which matters for more than two. As in the paper's
    equations, what is left of a task vector is not scaled back to its former length.
    """
    if not rank >= 1:
        raise ValueError(f"cat: rank must be at least 1, got {rank}")
    if not 0 <= balance < float("inf"):
        raise ValueError(f"cat: balance must be finite and at least 0, got {balance}")
    check_scale("cat", scale)
    task_vectors = [tensor - base for tensor in tensors]
    known = [one.to(base.device) for one in features if one is not None]
    if base.numel() and len(known) == len(tensors) and base.ndim > 1:
        task_vectors = _projected(task_vectors, known, int(rank), balance)
    elif base.numel() and base.ndim == 1:
        task_vectors = _masked(task_vectors, known, int(rank), balance)
    return base + scale * sum_weighted(task_vectors, coefficients)


def _projected(
    task_vectors: Sequence[Tensor], features: Sequence[Tensor], rank: int, balance: float
) -> list[Tensor]:
    """Project the conflicting directions of outputs out of the weights of a layer."""
    num_groups, num_inputs = features[0].shape[:2]
    shape = (num_groups, -1, num_inputs)
    matrices = [vector.double().reshape(shape) for vector in task_vectors]  # (G, out, D)
    bases = [_conflicts(matrices, features, model, rank, balance) for model in range(len(matrices))]
    for model, directions in enumerate(bases):  # (G, out, C)
        for other, matrix in enumerate(matrices):
            if other != model:
                matrices[other] = matrix - directions @ (directions.mT @ matrix)
    return [
        matrix.reshape(vector.shape).to(vector.dtype)
        for matrix, vector in zip(matrices, task_vectors, strict=True)
    ]


def _conflicts(
    matrices: Sequence[Tensor], features: Sequence[Tensor], model: int, rank: int, balance: float
) -> Tensor:
    """Return the directions (G, out, C) in which the others disturb a model; 0 where none do."""
    total = matrices[0].new_zeros(*matrices[0].shape[:2], matrices[0].shape[1])
    for other, matrix in enumerate(matrices):
        if other != model:
            total += _times(matrix, features[model]) @ matrix.mT
            total -= balance * _times(matrix, features[other]) @ matrix.mT
    values, vectors = torch.linalg.eigh(total)  # ascending
    floor = _NOISE * values.abs().amax(dim=-1, keepdim=True)
    gains = (values > floor)[:, -rank:]
    chosen: Tensor = vectors[:, :, -rank:] * gains[:, None]
    return chosen


def _times(matrix: Tensor, gram: Tensor) -> Tensor:
    return matrix @ gram if gram.ndim == 3 else matrix * gram[:, None]


def _masked(
    task_vectors: Sequence[Tensor], features: Sequence[Tensor], rank: int, balance: float
) -> list[Tensor]:
    """Set the entries of vectors to 0 in which the others disturb a model."""
    squares = [vector.double().square() for vector in task_vectors]
    is_scale = len(features) == len(task_vectors)
    kept = [torch.ones_like(vector) for vector in task_vectors]
    for model in range(len(task_vectors)):
        conflict = torch.zeros_like(squares[0])
        for other, square in enumerate(squares):
            if other != model:
                gap = features[model] - balance * features[other] if is_scale else 1.0
                conflict += square * gap
        values, places = conflict.topk(min(rank, len(conflict)))
        for other, mask in enumerate(kept):
            if other != model:
                mask[places[values > 0]] = 0
    return [vector * mask for vector, mask in zip(task_vectors, kept, strict=True)]
