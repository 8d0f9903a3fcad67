"""Arcee Fusion: apply only the changes of high importance (arcee-ai, https://arcee.ai)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stockpot.merging.method import method

_FENCE = 1.5  # interquartile ranges above the median: Tukey's rule for outliers, from the median
_BLOCK = 2**16  # entries that are converted to float64 at once


@method("arcee_fusion", num_models=(1, 1))
def arcee_fusion(tensors: Sequence[Tensor], base: Tensor) -> Tensor:
    """Take the model's entries where their importance is an outlier, the base's elsewhere.

    An entry's importance is the size of its change, times the Kullback-Leibler divergence between
    the softmax of its output unit's weights after and before.

    Args:
        tensors: the fine-tuned model's tensor, float32 or float64.
        base: the base's tensor; same shape and dtype.

    Returns:
        The merged tensor, each entry bit for bit the base's or the model's; shape and dtype of
        the inputs.

    Source: mergekit's `arcee_fusion`. Above a million entries it estimates the quartiles from a
    random sample; here they are exact. It computes divergences in the models' precision, and adds
    1e-8 to probabilities, which changes those of large rows; here they are in float64. It takes
    the softmax over the last axis, which in a convolution is one row of a kernel; here it is over
    the weights of an output unit, which is the same for a matrix.
    """
    [tensor] = tensors
    if tensor.numel() == 0:
        return tensor.clone()
    rows, before = (x.flatten(1) if x.ndim > 1 else x.reshape(1, -1) for x in (tensor, base))
    num_rows = max(1, _BLOCK // rows.shape[1])
    blocks = zip(torch.split(rows, num_rows), torch.split(before, num_rows), strict=True)
    divergences = [_divergences(*block) for block in blocks]
    by_row = torch.cat(divergences).to(rows.dtype)[:, None]
    importance = (rows - before).abs_().mul_(by_row).reshape(tensor.shape)
    return tensor.where(importance >= _threshold(importance), base)


def _divergences(after: Tensor, before: Tensor) -> Tensor:
    """Return the divergence of each row, in float64: terms of small divergences nearly cancel."""
    log_p, log_q = after.double().log_softmax(dim=1), before.double().log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).clamp(min=0)


def _threshold(importance: Tensor) -> Tensor:
    """Return the median plus 1.5 interquartile ranges; quantiles are entries, rounded down."""
    flat = importance.flatten()
    last = flat.numel() - 1
    q1, median, q3 = (flat.kthvalue(int(q * last) + 1).values for q in (0.25, 0.5, 0.75))
    return median + _FENCE * (q3 - q1)
