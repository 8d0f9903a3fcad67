"""The merges within a merge file, by their places in it."""

from __future__ import annotations

from collections.abc import Iterator

from stockpot.disk_merging.merge_files.merge_file import MergeFile, NestedEntry, as_entry


def inner_merges(file: MergeFile) -> dict[str, NestedEntry]:
    """Return the entries that are merges, by the places of these, such as `models.1.merge`."""
    return {f"{place}.merge": one for place, one in _entries(file) if one.merge is not None}


def _entries(file: MergeFile) -> Iterator[tuple[str, NestedEntry]]:
    for number, model in enumerate(file.models or []):
        yield f"models.{number}", as_entry(model)
    for number, part in enumerate(file.layers):
        for index, source in enumerate(part.models):
            yield f"layers.{number}.models.{index}", source
    for name, other in (("base", file.base_entry), ("config_from", file.config_entry)):
        if other is not None:
            yield name, other
