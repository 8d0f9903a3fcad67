"""Whether models belong together: their headers compared, and on request their weights."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from stockpot.storage.weights.sources import Source

_HEAD = re.compile(r"(^|\.)(lm_head|head|classifier|score|fc|output)\.")
_EMBEDDING = re.compile(r"embed|wte|word_embeddings")
# Two heads from different initialisations have cosines near 0; fine-tuned from one, near 1.
_SAME_START_COSINE = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was seen.

    Attributes:
        text: in words, with the tensors and models it is about.
        is_obstacle: whether these models cannot be merged as they are.
    """

    text: str
    is_obstacle: bool = False


@dataclass(frozen=True, slots=True)
class WeightComparison:
    """Models compared by their weights; each matrix is (M, M).

    Attributes:
        norms: of each model, or of its task vector where there is a base.
        cosines: between models, or task vectors.
        sign_agreement: the share of entries whose signs are equal, of models or task vectors.
        findings: in words.
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
    return findings or [Finding("all names, shapes and dtypes are equal")]


def compare_weights(sources: Sequence[Source], base: Source | None = None) -> WeightComparison:
    """Compare weights, tensor by tensor: a pass over all files.

    Args:
        sources: M models with equal names and shapes; other tensors are left out.
        base: what they were fine-tuned from; then task vectors are compared.
    """
    import torch

    size = len(sources)
    dots = torch.zeros(size, size, dtype=torch.float64)
    agreeing = torch.zeros(size, size, dtype=torch.float64)
    num_elements = 0
    heads: dict[str, Tensor] = {}
    is_equal = dict.fromkeys(itertools.combinations(range(size), 2), True)
    for name in _shared(sources, base):
        rows = torch.stack([source.read(name).reshape(-1).float() for source in sources])  # (M, P)
        for one, other in is_equal:
            is_equal[one, other] &= bool(torch.equal(rows[one], rows[other]))
        if _HEAD.search(name) and rows.shape[1] > 1:
            heads[name] = _cosines((rows @ rows.T).double())
        if base is not None:
            rows -= base.read(name).reshape(-1).float()
        dots += (rows @ rows.T).double()
        signs = rows.sign()
        agreeing += torch.stack([(signs == row).sum(dim=1) for row in signs]).double()
        num_elements += rows.shape[1]
    findings = [
        Finding(f"models {one} and {other} are equal: one of them counts twice")
        for (one, other), equal in is_equal.items()
        if equal
    ]
    findings += _different_heads(heads)
    return WeightComparison(
        norms=dots.diagonal().sqrt().tolist(),
        cosines=_cosines(dots).tolist(),
        sign_agreement=(agreeing / max(num_elements, 1)).tolist(),
        findings=findings,
    )


def is_head(name: str) -> bool:
    """Say whether a tensor is of a head, by its name."""
    return bool(_HEAD.search(name))


def compare_heads(rows_of: Mapping[str, Tensor]) -> list[Finding]:
    """Find heads that were not fine-tuned from one start.

    Args:
        rows_of: entries of each head, (M, P), a row a model.
    """
    cosines = {name: _cosines((rows @ rows.T).double()) for name, rows in rows_of.items()}
    return list(_different_heads(cosines))


def _missing(first: Source, source: Source, number: int) -> Iterator[Finding]:
    for lacking, names in (
        (0, source.tensors.keys() - first.tensors.keys()),
        (number, first.tensors.keys() - source.tensors.keys()),
    ):
        if not names:
            continue
        tied = " (a tied head is stored by some writers and not by others)"
        hint = tied if all(_HEAD.search(name) for name in names) else ""
        shown = ", ".join(sorted(names)[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        text = f"model {lacking} lacks {shown}{more}, which model {number - lacking} has{hint}"
        yield Finding(text, is_obstacle=True)


def _different_types(first: Source, source: Source, number: int) -> Iterator[Finding]:
    shared = [name for name in first.tensors if name in source.tensors]
    dtypes = set()
    for name in shared:
        one, other = first.tensors[name], source.tensors[name]
        if one.shape != other.shape:
            is_vocabulary = one.shape[1:] == other.shape[1:] and (
                _EMBEDDING.search(name) or _HEAD.search(name)
            )
            kind = "vocabularies or classes differ: " if is_vocabulary else ""
            yield Finding(
                f"{kind}{name} has shape {one.shape} in model 0, {other.shape} in model {number}",
                is_obstacle=True,
            )
        if one.dtype != other.dtype:
            dtypes.add((str(one.dtype), str(other.dtype)))
    for one_dtype, other_dtype in sorted(dtypes):
        yield Finding(
            f"{one_dtype} in model 0 is {other_dtype} in model {number}: merged in the wider one"
        )


def _batch_norm(first: Source) -> Iterator[Finding]:
    layers = [name for name in first.tensors if name.endswith("running_var")]
    if layers:
        yield Finding(
            f"{len(layers)} BatchNorm layers: their statistics are pooled; measure them anew "
            "with the workload's training data"
        )


def _different_heads(heads: dict[str, Tensor]) -> Iterator[Finding]:
    for name, cosines in heads.items():
        if cosines.min() < _SAME_START_COSINE:
            yield Finding(
                f"{name}: cosine between models down to {cosines.min():.2f}: it was not "
                "fine-tuned from one start, so its average means nothing",
                is_obstacle=True,
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


def _cosines(dots: Tensor) -> Tensor:
    norms = dots.diagonal().sqrt()
    return dots / (norms[:, None] * norms).clamp(min=1e-30)
