"""Notes on the files next to the weights: what is not copied, and what differs between models."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stockpot.disk_merging.side_files.companions import CARD, Companions, find_companions
from stockpot.disk_merging.vocabulary.tokenizers import is_of_tokenizer
from stockpot.errors import some_of
from stockpot.storage.weights.adapters import is_adapter
from stockpot.storage.weights.hub_origins import shown_name
from stockpot.storage.weights.sources import Source

_CONFIG = "config.json"  # describes the weights: compared, and adapted, on its own
# Fields that say by what a file was written, and where.
_NO_DIFFERENCE = {
    "_from_model_config",
    "_name_or_path",
    "__version__",
    "name_or_path",
    "special_tokens_map_file",
    "tokenizer_file",
    "transformers_version",
}
_LONGEST = 40  # characters of a value in a note


def companion_notes(
    copied: Companions, models: Sequence[Source], has_own_tokenizer: bool
) -> list[str]:
    """List what is not copied from a model's folder, and how it differs from those of others.

    Args:
        copied: the files that are copied.
        models: the models that are merged.
        has_own_tokenizer: whether the tokenizer is made for the output, with notes of its own.
    """
    origin = shown_name(copied.folder)
    others: dict[str, Companions] = {}
    for model in models:
        # An adapter may bring a tokenizer; its config is that of its base.
        for folder in dict.fromkeys([model.path, model.folder]):
            if folder is None or not folder.is_dir() or folder.samefile(copied.folder):
                continue
            name = shown_name(folder)
            name = str(folder) if name in {origin, *others} else name
            others[name] = find_companions(folder, are_copied=False)
    adapters = [name for name, each in others.items() if is_adapter(each.folder)]
    notes = _not_copied(origin, copied)
    if has_own_tokenizer:
        copied, others = (
            copied.without(is_of_tokenizer),
            {name: each.without(is_of_tokenizer) for name, each in others.items()},
        )
    return [*notes, *_companion_differences(origin, copied, others, adapters)]


def _not_copied(origin: str, companions: Companions) -> list[str]:
    """List what is left out of a model's folder, one line per reason."""
    notes = []
    for reason, paths in sorted(companions.left_out.items()):
        shown = [path for path in paths if path.lower() != CARD.lower()]
        if shown and reason != "hidden":
            names = some_of([_printable(path) for path in shown])
            notes.append(f"not copied from {origin}: {names} ({reason})")
    return notes


def _companion_differences(
    origin: str, companions: Companions, others: Mapping[str, Companions], partial: Sequence[str]
) -> list[str]:
    """List the differences between the files that are copied and those of other models.

    Args:
        origin: name of the model whose files are copied.
        companions: its files.
        others: the files of other models, by name.
        partial: names of models that need not have all files, such as adapters.
    """
    names = dict.fromkeys(name for each in (companions, *others.values()) for name in each.files)
    notes = []
    for name in names:
        if name == _CONFIG:
            continue
        holders = {model: each.files[name] for model, each in others.items() if name in each.files}
        own = companions.files.get(name)
        if own is None:
            notes.append(f"{_printable(name)}: only in {', '.join(holders)}, and not copied")
            continue
        lacking = [model for model in others if model not in holders and model not in partial]
        if lacking:
            notes.append(f"{_printable(name)}: copied from {origin}; not in {', '.join(lacking)}")
        notes += _differences(_printable(name), origin, own, holders)
    return notes


def _differences(name: str, origin: str, own: Path, holders: Mapping[str, Path]) -> Iterator[str]:
    """Yield the differences of one file, one line per group of models that differ alike."""
    differing = {
        model: file for model, file in holders.items() if not filecmp.cmp(own, file, shallow=False)
    }
    if not differing:
        return
    fields = _fields(own)
    others = {model: _fields(file) for model, file in differing.items()}
    if fields is None or None in others.values():
        yield f"{name}: differs in {', '.join(differing)}; that of {origin} is copied"
        return
    for field in dict.fromkeys([*fields, *(f for each in others.values() for f in each or {})]):
        values = {
            model: _shown(each.get(field))
            for model, each in others.items()
            if each is not None and each.get(field) != fields.get(field)
        }
        if field in _NO_DIFFERENCE or not values:
            continue
        mine = _shown(fields.get(field))
        if None in (mine, *values.values()):
            yield f"{name}: {field} differs in {', '.join(values)}; that of {origin} is copied"
        else:
            listed = ", ".join(f"{value} in {model}" for model, value in values.items())
            yield f"{name}: {field} is {listed}; copied: {mine} of {origin}"


def _fields(file: Path) -> dict[str, Any] | None:
    """Return the fields of a JSON file; None of any other file."""
    if file.suffix != ".json":
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _shown(value: object) -> str | None:
    """Return a value as text; None if it is too long for a note."""
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else None


def _printable(name: str) -> str:
    """Replace what a terminal or a card cannot show: bytes that are not UTF-8, control codes."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
