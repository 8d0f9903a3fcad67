"""Rules of merge files on their method and on what they write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from stockpot.errors import unknown_name
from stockpot.merging.registry import METHODS
from stockpot.merging.signature_layers import SIGNATURES

_EXACT_WITHOUT_BASE = ("linear", "task_arithmetic")  # the sum of changes is the change


def check_adapter_merge(method: str, refused: Sequence[str], *, core_space: bool) -> None:
    """Check a merge file with `output: adapter`.

    Args:
        method: of the merge.
        refused: fields that are set and apply only to models.
        core_space: whether the adapters are merged in common bases.

    Raises:
        ValueError: with the first rule that is broken.
    """
    if method not in _EXACT_WITHOUT_BASE and not core_space:
        raise ValueError(
            f"method must be one of {list(_EXACT_WITHOUT_BASE)} for `output: adapter`, got "
            f"{method!r}; set core_space: true for others, or merge onto the base"
        )
    if refused:
        raise ValueError(f"{refused[0]} is not for `output: adapter`; remove one of them")


class _Merge(Protocol):
    @property
    def output(self) -> str: ...

    @property
    def method(self) -> str: ...

    @property
    def outputs(self) -> Sequence[object]: ...


Merge = TypeVar("Merge", bound=_Merge)


def checked_inner(merge: Merge) -> Merge:
    """Return a merge that can be part of another one.

    Raises:
        ValueError: it cannot.
    """
    if merge.output != "model":
        raise ValueError(f"output must be model within another merge, got {merge.output!r}")
    if merge.outputs:
        raise ValueError("outputs are not for a merge within another merge; remove them")
    if merge.method == SIGNATURES:
        raise ValueError(
            f"method: {SIGNATURES} cannot be within another merge; write its model first"
        )
    return merge


def checked_method(method: str) -> str:
    """Return a method that merges tensors.

    Raises:
        ValueError: there is none of this name, or it merges nets.
    """
    if method == "concat":
        raise ValueError(
            "concat puts nets side by side, which takes their code; use it in an experiment: "
            "params.yaml, soups.N.method"
        )
    if method not in METHODS:
        raise unknown_name("merge method", method, METHODS)
    return method
