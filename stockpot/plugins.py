"""Plugins by name: built-in ones from a table, the user's as `module:name`.

A table holds import paths, not objects, so nothing is imported before it is used, and the key of a
result covers only the code of the plugins that it uses.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_type_hints

from stockpot.errors import InputError, unknown_name

T = TypeVar("T")

Check: TypeAlias = Callable[[T], str | None]
"""A check of a plugin: returns what is wrong and what to change, or None."""


class Registry(Mapping[str, T], Generic[T]):
    """The plugins of one kind by name; each is imported on first use.

    A name with a colon, `module:name`, refers to the user's code: it is looked up like the others,
    but not listed.
    """

    def __init__(
        self,
        kind: str,
        places: Mapping[str, str],
        adapt: Callable[[str, Any], T] = lambda _name, found: found,
    ) -> None:
        """Register the built-in plugins.

        Args:
            kind: the name of the kind in errors, e.g. `merge method`.
            places: name -> `module:attribute`.
            adapt: (name, imported object) -> plugin; raises InputError if it is not a valid one.
        """
        self.kind = kind
        self._places = dict(places)
        self._adapt = adapt
        self._found: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """Return the plugin called `name`.

        Raises:
            InputError: there is none, or its module cannot be imported.
        """
        if name not in self._found:
            self._found[name] = self._adapt(name, _load(self.kind, self.place_of(name)))
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        """Return whether `name` is built in, or has the form `module:name`."""
        return isinstance(name, str) and (name in self._places or ":" in name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the built-in plugins."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return the number of built-in plugins."""
        return len(self._places)

    def place_of(self, name: str) -> str:
        """Return the import path of a plugin, `module:attribute`; nothing is imported.

        Raises:
            InputError: `name` is neither built in nor of the form `module:name`.
        """
        if ":" in name:
            return name
        if name not in self._places:
            raise unknown_name(self.kind, name, self._places)
        return self._places[name]

    def module_of(self, name: str) -> str:
        """Return the module that defines a plugin, e.g. for the key of its code.

        Raises:
            InputError: `name` is neither built in nor of the form `module:name`.
        """
        return self.place_of(name).partition(":")[0]


def check_takes(plugin: str, function: Callable[..., Any], *arguments: str) -> None:
    """Check that a function can be called with positional arguments alone.

    Args:
        plugin: for the message, e.g. `metric 'my_metrics:margin'`.
        function: the function.
        arguments: names of the arguments, for the message.

    Raises:
        InputError: it takes fewer, or requires more.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions in C have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise InputError(
            f"{plugin}: must be a function of {' and '.join(arguments)}, "
            f"got {getattr(function, '__name__', plugin)}{signature}"
        ) from error


class Option(NamedTuple):
    """One keyword-only argument of a plugin, which is a field of params.yaml.

    Attributes:
        annotation: its type, with pydantic's constraints if it is `Annotated`.
        default: its value where it is not given; `...` if it is required.
    """

    annotation: Any
    default: Any


def types_of(plugin: Callable[..., Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the types of some arguments of a function or class, with what `Annotated` adds.

    Raises:
        NameError: an annotation cannot be resolved, e.g. since it is imported for type checkers
            only.
    """
    parameters = inspect.signature(plugin).parameters
    annotated = SimpleNamespace(__annotations__={n: parameters[n].annotation for n in names})
    scope = vars(sys.modules[plugin.__module__])
    return get_type_hints(annotated, globalns=scope, include_extras=True)


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
    try:
        types = types_of(plugin, options)
    except NameError as error:
        raise InputError(
            f"{place}: a type annotation cannot be resolved ({error}); import it at run time"
        ) from error
    return {
        name: Option(types[name], ... if p.default is p.empty else p.default)
        for name, p in options.items()
    }


def check_options(plugin: str, options: Mapping[str, Option], given: Mapping[str, Any]) -> None:
    """Check that given options are those of a plugin, with all that are required.

    Raises:
        InputError: an option is unknown, or a required one is missing.
    """
    for name in given:
        if name not in options:
            raise InputError(f"{plugin}: {unknown_name('option', name, options)}")
    for name, option in options.items():
        if option.default is ... and name not in given:
            raise InputError(f"{plugin}: option {name!r} is required, got nothing")


Outcome: TypeAlias = Literal["ok", "failed", "skipped"]


class Skipped(Exception):
    """Raised by a check that does not apply; the message says why."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check of a plugin.

    Attributes:
        name: the check's name, in words.
        claim: what the plugin must satisfy, as a sentence.
        outcome: ok, failed or skipped.
        message: of a failure, what is wrong and what to change; of a skipped check, the reason.
    """

    name: str
    claim: str
    outcome: Outcome
    message: str = ""


def run_checks(checks: Mapping[Check[T], tuple[Check[T], ...]], plugin: T) -> Iterator[CheckResult]:
    """Run checks in order and yield each result at once.

    An error in the plugin's own code is a failure of the check that met it; the others still run.

    Args:
        checks: each check, with those that it requires: it is skipped if one of these did not pass.
        plugin: what the checks take.
    """
    not_passed: set[Check[T]] = set()
    for check, required in checks.items():
        missing = [other for other in required if other in not_passed]
        if missing:
            result = _result(check, "skipped", f"requires: {_name_of(missing[0])}")
        else:
            result = _run_check(check, plugin)
        if missing or result.outcome == "failed":
            not_passed.add(check)
        yield result


def _run_check(check: Check[T], plugin: T) -> CheckResult:
    try:
        problem = check(plugin)
    except Skipped as reason:
        return _result(check, "skipped", str(reason))
    except InputError as error:
        return _result(check, "failed", str(error))
    except Exception as error:  # noqa: BLE001 (any error of the user's code)
        return _result(check, "failed", f"{_line_of(error)}: {type(error).__name__}: {error}")
    return _result(check, "ok") if problem is None else _result(check, "failed", problem)


def _result(check: Check[T], outcome: Outcome, message: str = "") -> CheckResult:
    return CheckResult(_name_of(check), (check.__doc__ or "").strip(), outcome, message)


def _name_of(check: Check[T]) -> str:
    return check.__name__.replace("_", " ")


def _line_of(error: BaseException) -> str:
    """Name the line that raised an error: the last one outside of stockpot and of libraries."""
    frames = traceback.extract_tb(error.__traceback__)
    own = Path(__file__).parent
    users = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and own not in Path(frame.filename).parents
    ]
    last = (users or frames)[-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def _load(kind: str, place: str) -> Any:
    """Import `module:attribute`."""
    module_name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"{kind} {place!r}: module {module_name!r} cannot be imported ({error}); "
            "put it in the project's folder or install it"
        ) from error
    except (Exception, SystemExit) as error:
        line = _line_of(error)  # of Python's own code if the module's has not begun
        where = "" if line.startswith("<frozen") else f"{line}: "
        raise InputError(
            f"{kind} {place!r}: module {module_name!r} cannot be imported "
            f"({where}{type(error).__name__}: {error})"
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
