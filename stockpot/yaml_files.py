"""YAML files as typed, frozen sections; every error names its field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stockpot.errors import InputError, nearest_hint, unknown_name


class Section(BaseModel):
    """Base class of all sections: frozen, and unknown keys are errors.

    Attributes:
        also_called: fields by the names that they have elsewhere, which are suggested.
    """

    also_called: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_number_is_true_or_false(cls, content: Any) -> Any:
        """Refuse booleans for numbers: Python equates `true` with 1, YAML `yes` with `true`."""
        fields = cls.model_fields if isinstance(content, dict) else {}
        for name, field in fields.items():
            if isinstance(content.get(name), bool) and field.annotation is not bool:
                found = str(content[name]).lower()
                raise ValueError(f"{name} must not be true or false, got {found}")
        return content


Fraction = Annotated[float, Field(gt=0, lt=1)]

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=60,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$",
        description="letters, digits, spaces, '.', '_' and '-'",
    ),
]


Place = tuple[int | str, ...]
S = TypeVar("S", bound=Section)
_MOST_VALUES = 100_000  # of one file

_WORDING = {
    "^(Input|List|String|Value) should ": "must ",
    "^Unable to extract tag using discriminator": "must have the field",
    "be a valid dictionary.*": "be a mapping",
    " after validation, not [0-9]+$": "",
}


def validated(kind: type[S], content: dict[str, Any], file_name: str) -> S:
    """Validate the content of a file.

    Raises:
        InputError: with all errors in the file, one per line.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = _describe_all(error, content, kind)
        raise InputError("\n".join(f"{file_name}: {line}" for line in lines)) from error


class _Loader(yaml.SafeLoader):
    """A loader to which 1e-3 is a number, as in YAML 1.2; in YAML 1.1 that is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parsed(text: str) -> Any:
    """Parse YAML, to a mapping or a single value.

    Raises:
        yaml.YAMLError: it is not YAML.
        ValueError: it has an invalid date.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of the safe loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose content is a mapping.

    Raises:
        InputError: the file is missing or not YAML, or a key is duplicated.
    """
    contents = read_documents(path)
    if len(contents) > 1:
        raise InputError(f"{path.name}: must be one document, got {len(contents)} between `---`")
    return contents[0]


def read_documents(path: Path) -> list[dict[str, Any]]:
    """Read the documents of a YAML file, at least one; the content of each is a mapping.

    Raises:
        InputError: as for `read_yaml`.
    """
    text = _text_of(path)
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        _check_size(nodes)
        contents = list(yaml.load_all(text, Loader=_Loader))  # refuses keys that are lists
        duplicates = sorted(found for node in nodes for found in _duplicate_keys(node))
    except RecursionError:
        raise InputError(f"{path.name}: not readable as YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an invalid date
        raise InputError(f"{path.name}: not readable as YAML: {error}") from error
    # Nothing after the last `---` is no document.
    contents = [content for content in contents if content is not None] or [None]
    for content in contents:
        if not isinstance(content, dict):
            raise InputError(f"{path.name}: must be a mapping of sections, got {content!r}")
    if duplicates:
        lines = (f"{path.name}: line {line}: {error}" for line, error in duplicates)
        raise InputError("\n".join(lines))
    return contents


def _text_of(path: Path) -> str:
    if path.exists() and not (path.is_file() or path.is_dir()):  # it might be waited for for ever
        raise InputError(f"{path}: must be a YAML file, got a pipe or a device")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path.name}: no such file in {path.parent}") from None
    except OSError as error:
        raise InputError(
            f"{path}: must be a YAML file that can be read ({error.strerror})"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is not UTF-8 ({error.reason}); save it as UTF-8") from None


def _check_size(nodes: Iterable[yaml.Node]) -> None:
    """Refuse documents whose aliases repeat each other until it fills the memory, or for ever."""
    sizes: dict[int, int] = {}

    def size_of(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_VALUES  # if it is met inside itself
            sizes[id(node)] = 1 + sum(map(size_of, _inner_nodes(node)))
        return sizes[id(node)]

    if sum(map(size_of, nodes)) > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases (`*name`) stand for more than {_MOST_VALUES} values")


def _inner_nodes(node: yaml.Node) -> Iterable[yaml.Node]:
    inner = node.value if isinstance(node, yaml.CollectionNode) else []
    return chain.from_iterable(item if isinstance(item, tuple) else [item] for item in inner)


def _duplicate_keys(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Find keys that would silently override an earlier one: lines and errors."""
    seen = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
        if key.value in seen:
            yield key.start_mark.line + 1, f"{key.value!r} is duplicated; keep one of them"
        seen.add(key.value)
    yield from chain.from_iterable(map(_duplicate_keys, _inner_nodes(node)))


def _describe_all(
    error: ValidationError, content: dict[str, Any], kind: type[Section]
) -> list[str]:
    """Describe each error: the place in the file, the rule, and the value that was found."""
    rules: dict[tuple[str, str], list[str]] = {}
    hints: dict[tuple[str, str], str] = {}
    placed = [
        (_place_in_file(detail["loc"], content, kind), detail)
        for detail in error.errors(include_url=False)
    ]
    for place, detail in placed:
        if any(_is_nearer(other, place, detail["type"]) for other in placed):
            continue
        rule, found = _rule_and_found(detail, place, kind)
        line = (".".join(map(str, place)), found)
        rules.setdefault(line, []).append(rule)
        if detail["type"] == "literal_error":
            hints[line] = nearest_hint(str(detail["input"]), _quoted(detail["ctx"]["expected"]))
    # A field of several allowed types has one error per type: the rules are alternatives.
    return [
        f"{where + ': ' * bool(where)}{' or '.join(dict.fromkeys(rules[where, found]))}{found}"
        f"{hints.get((where, found), '')}"
        for where, found in rules
    ]


def _is_nearer(other: tuple[Place, Mapping[str, Any]], place: Place, error: str) -> bool:
    """Return whether another error is what the user got wrong, not this one on a type.

    Where a field has several allowed types, the types that were not meant have errors too.
    """
    where, detail = other
    is_inside = len(where) > len(place) and where[: len(place)] == place
    is_on_value = where == place and detail["type"] in ("value_error", "finite_number")
    return error.endswith("_type") and (is_inside or is_on_value)


def _rule_and_found(
    detail: Mapping[str, Any], place: Place, kind: type[Section]
) -> tuple[str, str]:
    """Return the rule that was violated, and the end of the message with the value found."""
    context = detail.get("ctx", {})
    found = f", got {_short(detail['input'])}"
    match detail["type"]:
        case "extra_forbidden":
            # Another member of a union may have the field, but not this one.
            name, fields = str(place[-1]), _fields_at(place, kind) - {str(place[-1])}
            for section in _sections_at(place, kind):
                if meant := section.also_called.get(name):
                    return f"unknown field {name!r}; here it is {meant!r}", ""
            return str(unknown_name("field", name, fields)), ""
        case "union_tag_invalid":
            field, choices = context["discriminator"].strip("'"), _quoted(context["expected_tags"])
            return str(unknown_name(field, context["tag"], choices)), ""
        case "missing":
            return "is required", ", got nothing"
        case "value_error":
            return str(context["error"]), ""
        case _:
            return _reworded(detail["msg"]), found


def _reworded(message: str) -> str:
    """Reword a message of pydantic as a rule for a YAML file."""
    for theirs, ours in _WORDING.items():
        message = re.sub(theirs, ours, message)
    return message


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _place_in_file(location: Iterable[int | str], content: Any, kind: type[Section]) -> Place:
    """Remove from pydantic's location the names of union members, which are not in the file."""
    place: list[int | str] = []
    if not (parts := [*location]):
        return ()
    *parents, last = parts
    for part in parents:
        inside = isinstance(content, dict) and part in content
        if inside or (isinstance(content, list) and isinstance(part, int)):
            content = content[part]
            place.append(part)
    if isinstance(content, dict) or isinstance(last, int):
        fields = _fields_at((*place, last), kind)
        # A name that is neither present nor a field is that of a union member.
        is_tag = isinstance(content, dict) and last not in content and last not in fields
        place += [] if is_tag else [last]
    return tuple(place)


def _fields_at(place: Place, kind: type[Section]) -> set[str]:
    """List the fields of the section that holds `place`."""
    sections = _sections_at(place, kind)
    return {field.alias or name for s in sections for name, field in s.model_fields.items()}


def _sections_at(place: Place, kind: type[Section]) -> list[type[Section]]:
    """Return the section that holds `place`, or the members of a union of sections."""
    sections = [kind]
    for part in place[:-1]:
        if isinstance(part, str):
            fields = [s.model_fields[part] for s in sections if part in s.model_fields]
            sections = [inner for field in fields for inner in _sections_in(field.annotation)]
    return sections


def _sections_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections_in(inner)]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
