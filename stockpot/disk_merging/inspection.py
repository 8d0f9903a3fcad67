"""Check whether models can be merged: compare their headers and, optionally, their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stockpot.disk_merging.configs.differences import compare_models
from stockpot.disk_merging.planning.tied_heads import uses_another
from stockpot.errors import some_of
from stockpot.merging.methods.inner_products import cosines_of
from stockpot.storage.weights.sources import Source
from stockpot.storage.weights.tensor_names import has_vocabulary_rows, is_head

# Heads of different initialisations have cosines near 0; fine-tuned from the same one, near 1.
_SAME_START_COSINE = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation about the models.

    Attributes:
        text: a sentence that names the tensors and models.
        is_obstacle: whether it prevents merging these models unchanged.
    """

    text: str
    is_obstacle: bool = False


@dataclass(frozen=True, slots=True)
class WeightComparison:
    """Pairwise comparison of weights, or of task vectors if a base is given; matrices are (M, M).

    Attributes:
        norms: Frobenius norm per model.
        cosines: cosine similarity per pair.
        sign_agreement: fraction of entries with equal signs per pair.
        findings: what to know before merging.
    """

    norms: list[float]
    cosines: list[list[float]]
    sign_agreement: list[list[float]]
    findings: list[Finding]


def compare_headers(sources: Sequence[Source]) -> list[Finding]:
    """Compare names, shapes and dtypes; no weights are read."""
    first = sources[0]
    findings: list[Finding] = []
    for number, source in enumerate(sources[1:], start=1):
        findings += _missing(first, source, number)
        findings += _different_types(first, source, number)
    findings += _batch_norm(first)
    findings += [
        Finding(f"model {number}: {note}")
        for number, source in enumerate(sources)
        for note in source.notes
    ]
    return findings or [Finding("all names, shapes and dtypes are equal")]


def compare_configurations(sources: Sequence[Source]) -> list[Finding]:
    """Compare the models' config.json; those that may make a merge meaningless come first.

    The same classes in another order are an obstacle, as heads cannot be merged then.
    """
    return [
        Finding(difference.note, is_obstacle=difference.is_obstacle)
        for difference in compare_models(sources)
    ]


def compare_weights(sources: Sequence[Source], base: Source | None = None) -> WeightComparison:
    """Compare weights tensor by tensor, in one pass over all files.

    Args:
        sources: M models; tensors that differ in name or shape are ignored.
        base: the model that they were fine-tuned from; if given, task vectors are compared.
    """
    size = len(sources)
    dots = torch.zeros(size, size, dtype=torch.float64)
    agreeing = torch.zeros(size, size, dtype=torch.float64)
    num_elements = 0
    heads: dict[str, Tensor] = {}
    same_as = [0] * size  # the first model that is equal in what has been read
    for name in _shared(sources, base):
        rows = torch.stack([source.read(name).reshape(-1).float() for source in sources])  # (M, P)
        same_as = _split_groups(same_as, rows)
        if is_head(name) and rows.shape[1] > 1:
            heads[name] = cosines_of((rows @ rows.T).double())
        if base is not None:
            rows -= base.read(name).reshape(-1).float()
        dots += (rows @ rows.T).double()
        signs = rows.sign()
        agreeing += torch.stack([(signs == row).sum(dim=1) for row in signs]).double()
        num_elements += rows.shape[1]
    groups = [[n for n in range(size) if same_as[n] == first] for first in sorted({*same_as})]
    findings = [
        Finding(equal_models([f"model {number}" for number in group]))
        for group in groups
        if len(group) > 1
    ]
    findings += other_starts(heads)
    return WeightComparison(
        norms=dots.diagonal().sqrt().tolist(),
        cosines=cosines_of(dots).tolist(),
        sign_agreement=(agreeing / max(num_elements, 1)).tolist(),
        findings=findings,
    )


def other_starts(heads: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Find heads that were not fine-tuned from the same initialisation.

    Args:
        heads: cosines between models (M, M), by head.
    """
    for name, cosines in heads.items():
        if cosines.min() < _SAME_START_COSINE:
            yield Finding(
                f"{name}: cosine between models as low as {cosines.min():.2f}: it was not "
                "fine-tuned from the same initialisation, so its average is meaningless",
                is_obstacle=True,
            )


def equal_models(names: Sequence[str]) -> str:
    """Say that models are equal."""
    return f"equal models: {some_of(names)}; their weights count {len(names)} times"


def _split_groups(same_as: Sequence[int], rows: Tensor) -> list[int]:
    """Return the first equal model of each; `same_as` is that in the tensors before.

    Args:
        same_as: M indices of models.
        rows: (M, P), one tensor of all models.
    """
    firsts: list[int] = []
    for number, before in enumerate(same_as):
        alike = (
            one
            for one in range(number)
            if firsts[one] == one
            and same_as[one] == before
            and torch.equal(rows[one], rows[number])
        )
        firsts.append(next(alike, number))
    return firsts


def _missing(first: Source, source: Source, number: int) -> Iterator[Finding]:
    names = first.tensors.keys() | source.tensors.keys()
    for lacking, model in ((0, first), (number, source)):
        lacked = sorted(names - model.tensors.keys())
        tied = [name for name in lacked if uses_another(model, name, names)]
        others = [name for name in lacked if name not in tied]
        if tied:
            yield Finding(
                f"model {lacking} ties {some_of(tied)}, which model {number - lacking} stores: "
                "merged as if it were stored"
            )
        if others:
            hint = "; if it is tied, its config.json must say so" * all(map(is_head, others))
            yield Finding(
                f"model {lacking} lacks {some_of(others)}, which model {number - lacking} has"
                f"{hint}",
                is_obstacle=True,
            )


def _different_types(first: Source, source: Source, number: int) -> Iterator[Finding]:
    shared = [
        (n, one, source.tensors[n]) for n, one in first.tensors.items() if n in source.tensors
    ]
    for name, one, other in shared:
        if one.shape != other.shape:
            is_vocabulary = one.shape[1:] == other.shape[1:] and has_vocabulary_rows(name)
            kind = "vocabularies or classes differ: " if is_vocabulary else ""
            yield Finding(
                f"{kind}{name} has shape {one.shape} in model 0, {other.shape} in model {number}",
                is_obstacle=True,
            )
    dtypes = {(str(one.dtype), str(other.dtype)) for _, one, other in shared}
    for one_dtype, other_dtype in sorted(pair for pair in dtypes if pair[0] != pair[1]):
        yield Finding(
            f"{one_dtype} in model 0 is {other_dtype} in model {number}: merged in the wider dtype"
        )


def _batch_norm(first: Source) -> Iterator[Finding]:
    layers = [name for name in first.tensors if name.endswith("running_var")]
    if layers:
        yield Finding(
            f"{len(layers)} BatchNorm layers: their statistics are pooled; recalibrate them on "
            "the workload's training data"
        )


def _shared(sources: Sequence[Source], base: Source | None) -> list[str]:
    models = [*sources, *([] if base is None else [base])]
    first = models[0]
    return [
        name
        for name, stored in first.tensors.items()
        if stored.dtype.is_floating_point
        and stored.num_bytes > 0
        and all(name in m.tensors and m.tensors[name].shape == stored.shape for m in models)
    ]
