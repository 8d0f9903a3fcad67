"""Where the rows of an embedding come from: one row for each token of the output.

The rules are those of mergekit (`tokenizer/embed.py`): a model keeps its own row of a token that it
has. For a token that it lacks, all models take one row: the base's, else the mean of those models
that have the token, else zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

ABSENT = -1  # in place of a row

ZEROS = (ABSENT, ABSENT)
"""The source of a row of zeros."""


@dataclass(frozen=True)
class Rows:
    """The rows of one tensor, or of all that are indexed by tokens.

    Attributes:
        own: (M, V) int64, the row of each token of the output in each model, -1 where it has none.
            Of an id without token, -1 in all.
        lengths: M numbers of rows that the models' tensors have.
        is_token: (V,) bool, false for ids without token and for padding.
        chosen: the sources of single rows: the number of a model and the row in it, or `ZEROS`.
        forced: those of them that also replace the rows of models that have the token.
        base: the number of the model whose row others take; None without a base among them.
    """

    own: Tensor
    lengths: tuple[int, ...]
    is_token: Tensor
    chosen: Mapping[int, tuple[int, int]]
    forced: frozenset[int] = frozenset()
    base: int | None = None

    @property
    def size(self) -> int:
        """V, the number of rows of the output."""
        return self.own.shape[1]

    @cached_property
    def kept(self) -> Tensor:
        """The row (M, V) that each model has itself, -1 where it takes another one."""
        kept = self.own.clone()
        kept[:, list(self.forced)] = ABSENT
        return kept

    @cached_property
    def donors(self) -> Tensor:
        """The rows (M, V) whose mean is taken by models that keep none; -1 for no row."""
        donors = self.own.clone()
        if self.base is not None:
            others = [number for number in range(len(donors)) if number != self.base]
            donors[others] = donors[others].where(donors[self.base] == ABSENT, ABSENT)
        for row, (model, theirs) in self.chosen.items():
            donors[:, row] = ABSENT
            if model != ABSENT:
                donors[model, row] = theirs
        return donors

    def of(self, models: Sequence[int]) -> Rows:
        """Restrict to some of the models; a chosen row of another one is that of no model."""
        place = {number: n for n, number in enumerate(models)}
        chosen = {
            row: (place.get(model, ABSENT), theirs) for row, (model, theirs) in self.chosen.items()
        }
        lengths = tuple(self.lengths[number] for number in models)
        base = None if self.base is None else place.get(self.base)
        return Rows(self.own[list(models)], lengths, self.is_token, chosen, self.forced, base)

    @property
    def is_identity(self) -> bool:
        """Whether every model has all rows in the order of the output."""
        same = bool((self.kept == torch.arange(self.size)).all())
        return same and all(length == self.size for length in self.lengths)

    @cached_property
    def is_taken(self) -> Tensor:
        """Whether (M, V) a model takes a row that is not its own."""
        return (self.kept == ABSENT) & self.is_token

    @property
    def has_zeros(self) -> bool:
        """Whether some row is zeros."""
        return bool((self.is_taken.any(0) & (self.donors == ABSENT).all(0)).any())
