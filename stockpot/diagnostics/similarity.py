"""How alike the task vectors of ingredients are, and which of them form groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from stockpot.diagnostics.context import DiagnosticContext
from stockpot.diagnostics.finding import Alert, Finding
from stockpot.merging.methods.inner_products import cosines_of, task_vector_gram

CUT = 0.9  # of the mean of 1 - cosine: groups whose mean cosine is below 0.1 are apart
_FOREIGN = 0.25  # a cosine below this share of the usual one is of something else
_USUAL = 0.1  # a usual cosine below it: ingredients of different tasks, where all are foreign
_NEGLIGIBLE = 0.25  # a task vector below this share of the usual norm can do no harm

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clusters:
    """Models in groups, by average linkage.

    Attributes:
        labels: the group of each model, from 0, in the order of the groups' first models.
        order: positions of the models, those that are alike next to each other.
        links: the two clusters that are joined, at which height, and how many models are then
            in one; clusters from M on are those made by earlier links.
    """

    labels: list[int]
    order: list[int]
    links: list[list[float]]


def similarity(context: DiagnosticContext) -> Finding:
    """Compare the task vectors of all ingredients: angles, lengths and groups.

    Source: Ilharco et al. 2023, https://arxiv.org/abs/2212.04089, who find task vectors of
    different tasks nearly orthogonal.
    """
    names = [one.name for one in context.ingredients]
    if len(names) == 1:
        return Finding("There is one ingredient, so there are no two task vectors to compare.")
    gram = task_vector_gram([one.weights for one in context.ingredients], context.base.weights)
    cosines: Floats = cosines_of(gram).numpy()
    norms = gram.diagonal().clamp(min=0).sqrt().tolist()
    found = cluster(cosines)
    usual = float(np.median(_to_others(cosines)))
    alerts = foreign(names, cosines, norms)
    data = {
        "ingredients": names,
        "cosines": [[round(value, 4) for value in row] for row in cosines.tolist()],
        "norms": [round(norm, 6) for norm in norms],
        "relative_norms": [round(value, 4) for value in _relative(norms)],
        "cut": CUT,
        **asdict(found),
    }
    pairs = cosines[np.triu_indices(len(names), 1)]
    metrics = {
        "mean_cosine": float(pairs.mean()),
        "lowest_cosine": float(pairs.min()),
        "num_clusters": float(len(set(found.labels))),
        "largest_relative_norm": max(_relative(norms)),
    }
    return Finding(_sentence(data, pairs, usual, alerts), metrics, data, tuple(alerts))


def cluster(cosines: Floats, cut: float = CUT) -> Clusters:
    """Join models from the most alike on, by the mean of 1 - cosine between groups.

    Args:
        cosines: (M, M), symmetric, M at least 2.
        cut: groups that are further apart stay groups.
    """
    distances = 1 - (cosines + cosines.T) / 2
    np.fill_diagonal(distances, 0)
    links = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    numbers: dict[int, int] = {}
    for number in fcluster(links, cut, "distance").tolist():
        numbers.setdefault(number, len(numbers))
    labels = [numbers[number] for number in fcluster(links, cut, "distance").tolist()]
    return Clusters(labels, leaves_list(links).tolist(), np.round(links, 6).tolist())


def foreign(names: Sequence[str], cosines: Floats, norms: Sequence[float]) -> list[Alert]:
    """Name models whose task vectors have little in common with the others', which have much.

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
            f"its task vector has a cosine of {own:.2f} with the others' (median), which among "
            f"ingredients is usually {usual:.2f}: it was trained from another start or for "
            "something else",
        )
        for name, own, norm in zip(names, to_others, norms, strict=True)
        if own < _FOREIGN * usual and norm > _NEGLIGIBLE * usual_norm
    ]


def _to_others(cosines: Floats) -> list[float]:
    """Return the median cosine of each model with the others."""
    return [float(np.median(np.delete(row, place))) for place, row in enumerate(cosines)]


def _relative(norms: Sequence[float]) -> list[float]:
    """Return norms in units of their median; of zeros, zeros."""
    usual = median(norms) or 1.0
    return [norm / usual for norm in norms]


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
        return f"{seen}; some did not move from the base at all."
    if num_clusters == 1:
        return f"{seen}: one group, whose members took related ways from the base."
    if usual < _USUAL:
        return (
            f"{seen}: nearly orthogonal, as of different tasks. An average keeps little of each; "
            "sums of task vectors (task_arithmetic, ties) are made for this."
        )
    return (
        f"{seen}: {num_clusters} groups, with mean cosines below {1 - data['cut']:.1f} between "
        "them. A soup of one group alone may be better than one of all."
    )
