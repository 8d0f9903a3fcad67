"""Overlap of the masks of sparse ingredients, in total and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Finding
from stockpot.merging.sparse_masks import nonzero_mask
from stockpot.statistics.values import Floats


@dataclass(frozen=True, slots=True)
class Overlap:
    """Numbers of entries in the masks of K models, of one layer or of several.

    Attributes:
        size: of all entries.
        shared: of those in the masks of two models, and of one on the diagonal; (K, K).
        expected: the same for independent masks of the same sizes; (K, K).
        union: of those in any mask, and what is expected of independent masks.
        common: of those in all masks.
    """

    size: int
    shared: Floats
    expected: Floats
    union: tuple[float, float]
    common: int

    @property
    def jaccard(self) -> Floats:
        """Shared entries divided by those in either mask, (K, K); 1 for two empty masks."""
        return _jaccard(self.shared)

    @property
    def expected_jaccard(self) -> Floats:
        """The same for independent masks, by the ratio of the expectations."""
        return _jaccard(self.expected)


def mask_overlap(context: DiagnosticContext) -> Finding:
    """Compare the masks of the pruned ingredients: the entries of weights that are not 0.

    Source: dynamic sparse training moves masks apart (Wang et al. 2024,
    https://arxiv.org/abs/2402.02855); that merges need their overlap is an addition.
    """
    pruned = [one for one in context.ingredients if not one.model.is_dense]
    if len(pruned) < 2:
        found = "Only one ingredient is" if pruned else "No ingredient is"
        return Finding(f"{found} pruned, so there are no masks to compare.")
    masks = [nonzero_mask(one.weights) for one in pruned]
    layers = {name: overlap([mask[name] for mask in masks]) for name in masks[0]}
    total = total_of([*layers.values()])
    names = [one.name for one in pruned]
    data = {
        "ingredients": names,
        "dense": [one.name for one in context.ingredients if one.name not in names],
        "densities": _rounded(total.shared.diagonal() / total.size),
        "pairs": {
            "total": _matrix(total.jaccard),
            "layers": {name: _matrix(one.jaccard) for name, one in layers.items()},
        },
        "layers": [{"name": name, **_summary(one)} for name, one in layers.items()],
        "total": _summary(total),
        "one_mask": total.union[0] == total.common,
    }
    return Finding(_sentence(data), _metrics(data), data)


def overlap(masks: Sequence[Tensor]) -> Overlap:
    """Count the entries that masks share.

    Args:
        masks: K of one shape, bool.
    """
    inside = torch.stack([mask.flatten() for mask in masks])  # (K, P)
    size = inside.shape[1]
    shared = torch.stack([(inside & own).sum(dim=1) for own in inside]).numpy().astype(float)
    sizes = shared.diagonal()
    expected = np.outer(sizes, sizes) / max(1, size)
    np.fill_diagonal(expected, sizes)
    outside = float(np.prod(1 - sizes / max(1, size)))
    union = float(inside.any(dim=0).sum()), size * (1 - outside)
    return Overlap(size, shared, expected, union, int(inside.all(dim=0).sum()))


def total_of(layers: Sequence[Overlap]) -> Overlap:
    """Return the overlap in several layers together."""
    return Overlap(
        sum(one.size for one in layers),
        np.sum([one.shared for one in layers], axis=0),
        np.sum([one.expected for one in layers], axis=0),
        (sum(one.union[0] for one in layers), sum(one.union[1] for one in layers)),
        sum(one.common for one in layers),
    )


def _jaccard(shared: Floats) -> Floats:
    sizes = shared.diagonal()
    either: Floats = sizes[:, None] + sizes[None, :] - shared
    return np.divide(shared, either, out=np.ones_like(shared), where=either > 0)


def _summary(found: Overlap) -> dict[str, Any]:
    """Return the pairs' mean and lowest Jaccard index, and densities of union and intersection."""
    pairs = np.triu_indices(len(found.shared), 1)
    size = max(1, found.size)
    values = {
        "mean": found.jaccard[pairs].mean(),
        "lowest": found.jaccard[pairs].min(),
        "expected": found.expected_jaccard[pairs].mean(),
        "union": found.union[0] / size,
        "expected_union": found.union[1] / size,
        "common": found.common / size,
    }
    return {"size": found.size} | {n: round(float(value), 4) for n, value in values.items()}


def _metrics(data: Mapping[str, Any]) -> dict[str, float]:
    total = data["total"]
    return {
        "mean_jaccard": total["mean"],
        "lowest_jaccard": total["lowest"],
        "expected_jaccard": total["expected"],
        "union_density": total["union"],
        "common_density": total["common"],
    }


def _sentence(data: Mapping[str, Any]) -> str:
    total, count = data["total"], len(data["ingredients"])
    density = _percent(fmean(data["densities"]))
    others = f" Not pruned: {', '.join(data['dense'])}." if data["dense"] else ""
    if data["one_mask"]:
        return (
            f"The {count} pruned ingredients have one mask, with {density} of the weights: an "
            f"average of them is as sparse as they are.{others}"
        )
    return (
        f"The masks of {count} pruned ingredients, with {density} of the weights on average, "
        f"overlap with a mean Jaccard index of {total['mean']:.2f} (lowest {total['lowest']:.2f}; "
        f"of independent masks {total['expected']:.2f}). In some mask, so kept by masks: union, "
        f"are {_percent(total['union'])} of the weights; in all, so kept by masks: intersection, "
        f"{_percent(total['common'])}.{others}"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _matrix(values: Floats) -> list[list[float]]:
    return [_rounded(row) for row in values]


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 4) for value in values]
