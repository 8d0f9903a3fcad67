"""Similarity of the ingredients' task vectors, and their clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Alert, Finding
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram
from stockpot.statistics.values import Floats

CUT = 0.9  # mean of 1 - cosine: clusters with more between them are separate
_FOREIGN = 0.25  # share of the usual cosine: a task vector with less raises an alert
_USUAL = 0.1  # usual cosine: if it is less, the ingredients have different tasks
_NEGLIGIBLE = 0.25  # share of the usual norm: a shorter task vector does no harm


def similarity(context: DiagnosticContext) -> Finding:
    """Compare the task vectors of all ingredients: angles, norms and clusters.

    Source: Ilharco et al. 2023, https://arxiv.org/abs/2212.04089, who find task vectors of
    different tasks nearly orthogonal.
    """
    names = [one.name for one in context.ingredients]
    if len(names) == 1:
        return Finding("There is only one ingredient, so there are no task vectors to compare.")
    gram = task_vector_gram([one.weights for one in context.ingredients], context.base.weights)
    cosines: Floats = cosines_of(gram).numpy()
    norms = gram.diagonal().clamp(min=0).sqrt().tolist()
    relative = [norm / (median(norms) or 1.0) for norm in norms]
    found = cluster(cosines)
    usual = float(np.median(_to_others(cosines)))
    alerts = foreign(names, cosines, norms)
    data = {
        "ingredients": names,
        "cosines": [[round(value, 4) for value in row] for row in cosines.tolist()],
        "norms": [round(norm, 6) for norm in norms],
        "relative_norms": [round(value, 4) for value in relative],
        "cut": CUT,
        **found,
    }
    pairs = cosines[np.triu_indices(len(names), 1)]
    metrics = {
        "mean_cosine": float(pairs.mean()),
        "lowest_cosine": float(pairs.min()),
        "num_clusters": float(len(set(found["labels"]))),
        "largest_relative_norm": max(relative),
    }
    return Finding(_sentence(data, pairs, usual, alerts), metrics, data, tuple(alerts))


def cluster(cosines: Floats, cut: float = CUT) -> dict[str, list[Any]]:
    """Cluster models by average linkage of the distance 1 - cosine.

    Args:
        cosines: (M, M), symmetric, M at least 2.
        cut: clusters that are further apart are not joined.

    Returns:
        `labels`, the cluster of each model, from 0, in the order of the clusters' first models;
        `order`, positions of the models, with similar ones next to each other; `links`, scipy's
        linkage matrix: two clusters, the height at which they are joined, and the number of models
        in the result.
    """
    distances = 1 - (cosines + cosines.T) / 2
    np.fill_diagonal(distances, 0)
    links = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    numbers: dict[int, int] = {}
    found = fcluster(links, cut, "distance").tolist()
    return {
        "labels": [numbers.setdefault(number, len(numbers)) for number in found],
        "order": leaves_list(links).tolist(),
        "links": np.round(links, 6).tolist(),
    }


def foreign(names: Sequence[str], cosines: Floats, norms: Sequence[float]) -> list[Alert]:
    """Return an alert for each model whose task vector is unlike the others', which are alike.

    Args:
        names: of M models.
        cosines: between their task vectors, (M, M).
        norms: of their task vectors.
    """
    if len(names) < 3:
        return []
    to_others = _to_others(cosines)
    usual, usual_norm = float(np.median(to_others)), median(norms)
    if usual < _USUAL:
        return []
    return [
        Alert(
            name,
            f"its task vector has a cosine of {own:.2f} with the others' (median), usual among "
            f"ingredients is {usual:.2f}: it was trained from another base or for another task",
        )
        for name, own, norm in zip(names, to_others, norms, strict=True)
        if own < _FOREIGN * usual and norm > _NEGLIGIBLE * usual_norm
    ]


def _to_others(cosines: Floats) -> list[float]:
    """Return the median cosine of each model with the others."""
    return [float(np.median(np.delete(row, place))) for place, row in enumerate(cosines)]


def _sentence(data: Mapping[str, Any], pairs: Floats, usual: float, alerts: Sequence[Alert]) -> str:
    num_models, num_clusters = len(data["ingredients"]), len(set(data["labels"]))
    seen = (
        f"The task vectors of {num_models} ingredients have cosines of {pairs.min():.2f} to "
        f"{pairs.max():.2f}, {pairs.mean():.2f} on average"
    )
    if alerts:
        named = ", ".join(alert.model for alert in alerts)
        return f"{seen}; {named} should not be averaged with the others."
    if np.count_nonzero(data["norms"]) < num_models:
        return f"{seen}; some are equal to the base."
    if num_clusters == 1:
        return f"{seen}: one cluster of related directions."
    if usual < _USUAL:
        return (
            f"{seen}: nearly orthogonal, as for different tasks. An average keeps little of each; "
            "methods that add task vectors (task_arithmetic, ties) are made for this case."
        )
    return (
        f"{seen}: {num_clusters} clusters, with mean cosines below {1 - data['cut']:.1f} between "
        "them. A soup of one cluster may be better than one of all."
    )
