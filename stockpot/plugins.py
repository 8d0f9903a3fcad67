"""Things found by name: built-in ones from a table, a user's own as `module:name`.

A table holds places, not things, so nothing is imported before it is asked for, and a result
depends on the code of the things it uses alone.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

from stockpot.errors import InputError, unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The things of one kind by name; each is imported when it is first looked up.

    A name with a colon, `module:name`, is a user's own: it is looked up like the others, but it is
    not listed.
    """

    def __init__(
        self,
        kind: str,
        places: Mapping[str, str],
        adapt: Callable[[str, Any], T] = lambda _name, found: found,
    ) -> None:
        """Hold the places of the built-in things.

        Args:
            kind: what one is called in errors, e.g. `merge method`.
            places: name -> `module:attribute`.
            adapt: (name, what stands at the place) -> the thing; raises InputError if it is none.
        """
        self.kind = kind
        self._places = dict(places)
        self._adapt = adapt
        self._found: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """Return the thing called `name`.

        Raises:
            InputError: there is none, or its module cannot be imported.
        """
        if name not in self._found:
            self._found[name] = self._adapt(name, _load(self.kind, self.place_of(name)))
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        """Say whether `name` is built in, or has the form of a user's own."""
        return isinstance(name, str) and (name in self._places or ":" in name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the built-in things."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return the number of built-in things."""
        return len(self._places)

    def place_of(self, name: str) -> str:
        """Return where a thing stands, as `module:attribute`; nothing is imported.

        Raises:
            InputError: `name` is not built in and is no `module:name`.
        """
        if ":" in name:
            return name
        if name not in self._places:
            raise unknown_name(self.kind, name, self._places)
        return self._places[name]

    def module_of(self, name: str) -> str:
        """Return the module that a thing stands in, e.g. for the key of its code.

        Raises:
            InputError: `name` is not built in and is no `module:name`.
        """
        return self.place_of(name).partition(":")[0]


class Option(NamedTuple):
    """One keyword-only argument of a plugin, which is a field of params.yaml.

    Attributes:
        annotation: its type, with pydantic's constraints if it is `Annotated`.
        default: its value where it is not given; `...` if it is required.
    """

    annotation: Any
    default: Any


def options_of(place: str, plugin: Callable[..., Any]) -> dict[str, Option]:
    """Return the keyword-only arguments of a function or class, by name.

    Raises:
        InputError: one has no annotation, or its annotation cannot be resolved.
    """
    parameters = inspect.signature(plugin).parameters.values()
    options = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    for name, parameter in options.items():
        if parameter.annotation is parameter.empty:
            raise InputError(f"{place}: option {name!r} must have a type annotation")
    annotated = SimpleNamespace(__annotations__={n: p.annotation for n, p in options.items()})
    try:
        scope = vars(sys.modules[plugin.__module__])
        types = get_type_hints(annotated, globalns=scope, include_extras=True)
    except NameError as error:
        raise InputError(
            f"{place}: a type annotation cannot be resolved ({error}); import it at run time"
        ) from error
    return {
        name: Option(types[name], ... if p.default is p.empty else p.default)
        for name, p in options.items()
    }


def _load(kind: str, place: str) -> Any:
    """Import what `module:attribute` names."""
    module_name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:  # ValueError: the part before ':' is empty
        raise InputError(
            f"{kind} {place!r}: module {module_name!r} cannot be imported ({error}); "
            "put it in the project's folder or install it"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        choices = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module_name and name[0] != "_"
        ]
        raise unknown_name(f"{kind} in {module_name!r}:", attribute, choices)
    return found
