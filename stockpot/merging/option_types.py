"""The types of the options of a merge method, from its signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from stockpot.plugins import types_of


def option_types(merge: Callable[..., Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the types of some arguments of a function, with what `Annotated` adds.

    Args:
        merge: the function.
        names: of the arguments.

    Returns:
        Name -> type; Any for one that cannot be resolved, such as one that was imported for type
        checkers only.
    """
    return {name: _type_of(merge, name) for name in names}


def _type_of(merge: Callable[..., Any], name: str) -> Any:
    try:
        return types_of(merge, [name])[name]
    except NameError:
        return Any
