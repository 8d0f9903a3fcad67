"""Things found by name: built-in ones from a table, a user's own as `module:name`.

A table holds places, not things, so nothing is imported before it is asked for, and a result
depends on the code of the things it uses alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

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
        choices = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise unknown_name(f"{kind} in {module_name!r}:", attribute, choices)
    return found
