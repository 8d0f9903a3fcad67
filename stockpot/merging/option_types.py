"""The types of the options of a merge method, from its signature."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, get_type_hints


def types_of(merge: Callable[..., Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the types of some arguments of a function, with what `Annotated` adds.

    Args:
        merge: the function.
        names: of the arguments.

    Returns:
        Name -> type; Any for one that cannot be resolved, such as one that was imported for type
        checkers only.
    """
    parameters = inspect.signature(merge).parameters
    scope = vars(sys.modules[merge.__module__])
    return {name: _resolved(parameters[name].annotation, scope) for name in names}


def _resolved(annotation: Any, scope: dict[str, Any]) -> Any:
    holder = SimpleNamespace(__annotations__={"option": annotation})
    try:
        return get_type_hints(holder, globalns=scope, include_extras=True)["option"]
    except NameError:
        return Any
