"""The fields of a merge file for models whose tensors do not match."""

from __future__ import annotations

from typing import Literal

from stockpot.yaml_files import Section


class Exceptions(Section):
    """The rules for tensors that do not match between models.

    Attributes:
        missing: for tensors that some models lack. skip: merge the others; base: copy the tensor
            from the base, or without a base, from the first model.
        mismatch: for tensors whose shape differs from the base's, or without a base, from the
            first model's. skip and base: as for `missing`; common: of embeddings and heads, merge
            the rows that all models have and copy the rest.
        exclude: parts of names (`*` is a wildcard) of tensors that are copied.
        integer: for integer buffers that differ. base: copy from the base, or without a base,
            from the first model; first: from the first model that has them. Batch counts are
            never copied: the output has the largest.
    """

    missing: Literal["error", "skip", "base"] = "error"
    mismatch: Literal["error", "skip", "base", "common"] = "error"
    exclude: tuple[str, ...] = ()
    integer: Literal["error", "base", "first"] = "error"
