"""mergekit-multi's format: a document per merge, which may name other merges as its models.

They become one merge with merges within it, so that nothing is written between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockpot.disk_merging.mergekit.conversion import from_mergekit, is_mergekit
from stockpot.errors import InputError

Content = dict[str, Any]


def from_stages(documents: Sequence[Content], file_name: str) -> tuple[Content, list[str]]:
    """Convert the documents of a file; the output is the one without a name, else the last.

    Returns:
        The content in our format, and notes on what was ignored.

    Raises:
        InputError: with everything that is wrong with a document, or they merge each other in a
            circle.
    """
    names = [_name(document, number, file_name) for number, document in enumerate(documents, 1)]
    doubled = sorted({name for name in names if names.count(name) > 1}, key=str)
    if doubled:
        found = "without a name" if doubled[0] is None else f"with the name {doubled[0]!r}"
        raise InputError(f"{file_name}: one document must be {found}, got several")
    converted, notes = {}, []
    for name, document in zip(names, documents, strict=True):
        own = {field: value for field, value in document.items() if field != "name"}
        where = f"{file_name}: {name}" if name else file_name
        converted[name], ignored = from_mergekit(own, where)
        notes += [f"{name}: {note}" if name else note for note in ignored]
    output = None if None in converted else names[-1]
    stages = _Stages(converted, file_name)
    content = stages.nested(output)
    notes += [
        f"{name} is not part of the output and not made"
        for name in names
        if name not in stages.used
    ]
    return content, notes


def _name(document: Content, number: int, file_name: str) -> str | None:
    if not is_mergekit(document):
        raise InputError(
            f"{file_name}: document {number} has no merge_method; only a file in mergekit's format "
            "has several documents, in ours a merge within another is written as `merge: {...}`"
        )
    name = document.get("name")
    if name is not None and not (isinstance(name, str) and name):
        raise InputError(f"{file_name}: document {number}: name must be a text, got {name!r}")
    return name


class _Stages:
    """The merges of a file in our format, by name."""

    def __init__(self, merges: Mapping[str | None, Content], file_name: str) -> None:
        self._merges, self._file_name = merges, file_name
        self.used: set[str | None] = set()

    def nested(self, name: str | None, outer: tuple[str | None, ...] = ()) -> Content:
        """Return a merge with those that it names in place of their names.

        Args:
            name: of the merge.
            outer: the merges that it is within.

        Raises:
            InputError: it is within itself.
        """
        self.used.add(name)
        if name in outer:
            circle = " merges ".join(map(repr, (*outer[outer.index(name) :], name)))
            raise InputError(f"{self._file_name}: {circle}; remove one of these references")
        merge = dict(self._merges[name])
        inside = (*outer, name)
        for field in ("base", "config_from"):
            if isinstance(merge.get(field), str):
                model = self._model(merge[field], inside)
                merge[field] = model.get("path", model)
        if merge.get("models"):
            merge["models"] = [self._entry(entry, inside) for entry in merge["models"]]
        if merge.get("layers"):
            merge["layers"] = [
                part | {"models": [self._entry(entry, inside) for entry in part["models"]]}
                for part in merge["layers"]
            ]
        return merge

    def _entry(self, entry: Content, outer: tuple[str | None, ...]) -> Content:
        rest = {name: value for name, value in entry.items() if name != "path"}
        return self._model(entry["path"], outer) | rest

    def _model(self, path: str, outer: tuple[str | None, ...]) -> Content:
        """Return the fields of a model that is named, perhaps with an adapter on it."""
        name, _, adapter = path.partition("+")
        if name not in self._merges:
            return {"path": path}
        merged = {"merge": self.nested(name, outer)}
        if not adapter:
            return merged
        return {"merge": {"method": "passthrough", "models": [adapter], "base": merged}}
