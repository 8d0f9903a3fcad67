"""The merge methods by name, each with what it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class MergeFunction(Protocol):
    """Merge the same-named tensors of all models, in float32 or wider."""

    def __call__(self, tensors: Sequence[Tensor], coefficients: Sequence[float]) -> Tensor:
        """Return the merged tensor; shape and dtype of the inputs, which stay as they are."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """A registered merge method."""

    name: str
    merge: MergeFunction


METHODS: dict[str, Method] = {}


def method(name: str) -> Callable[[MergeFunction], MergeFunction]:
    """Register the decorated function as the merge method `name`; it is returned unchanged."""

    def register(merge: MergeFunction) -> MergeFunction:
        if name in METHODS:
            raise ValueError(f"merge method {name!r} is registered twice")
        METHODS[name] = Method(name, merge)
        return merge

    return register
