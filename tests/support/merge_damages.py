"""Damages of files, of any kind: of their bytes, of what they say, of the file itself."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

IN_TREE = ("set", "set", "set", "set", "remove", "rename", "copy", "twice", "deepen", "add")
IN_BYTES = ("flip", "flip", "flip", "cut", "insert", "zeros")
OF_FILE = ("empty", "delete", "folder", "link", "pipe", "swap", "pickle")


@dataclass(frozen=True)
class Damage:
    """One change of one file.

    Attributes:
        kind: what is done, of the names above.
        file: which one, a number modulo the number of files.
        at: which place in it, modulo the number of places.
        value: what is put there.
    """

    kind: str
    file: int
    at: int = 0
    value: Any = None


def remove(path: Path) -> None:
    """Remove a file, a link, a pipe or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def apply(damage: Damage, path: Path, other: Path) -> None:
    """Damage a file; what does not apply to it leaves it as it is."""
    if damage.kind in OF_FILE:
        _replace(damage, path, other)
        return
    if not path.is_file() or path.is_symlink():
        return
    content = path.read_bytes()
    if damage.kind in IN_BYTES:
        path.write_bytes(_changed_bytes(damage, content))
    elif (changed := _changed_tree(damage, path, content)) is not None:
        path.write_bytes(changed)


def _replace(damage: Damage, path: Path, other: Path) -> None:
    content = other.read_bytes() if other.is_file() and not other.is_symlink() else b""
    remove(path)
    match damage.kind:
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to((other, path, path.parent, "nowhere", "/dev/null")[damage.at % 5])
        case "pipe":
            os.mkfifo(path)
        case "swap":
            path.write_bytes(content)
        case "pickle":
            torch.save(_pickled(damage), path)


def _pickled(damage: Damage) -> Any:
    tensors = [
        torch.zeros(2, 3).t(),
        torch.zeros(1).expand(2**40),
        torch.zeros(3).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
        torch.empty(4, device="meta"),
        torch.nn.Parameter(torch.ones(2)),
        torch.zeros(0),
        torch.zeros(1, 4)[:, ::2],
    ]
    tensor = tensors[damage.at % len(tensors)]
    value = damage.value
    return (
        value,
        {"w": tensor},
        {"w": value},
        {value if isinstance(value, str) else 1: tensor},
        {"state_dict": {"w": tensor}},
        [tensor],
        tensor,
    )[damage.at // 16 % 7]


def _changed_bytes(damage: Damage, content: bytes) -> bytes:
    at = damage.at * max(1, len(content) // 2**16) % (len(content) + 1)
    if damage.at % 3:  # headers, where most of the meaning is
        at %= 300
    value: bytes = damage.value
    match damage.kind:
        case "flip":
            flipped = bytes(
                x ^ y for x, y in zip(content[at : at + len(value)], value, strict=False)
            )
            return content[:at] + flipped + content[at + len(flipped) :]
        case "cut":
            return content[:at]
        case "insert":
            return content[:at] + value + content[at:]
        case _:
            return (
                content[:at]
                + bytes(len(content[at : at + 8 * len(value)]))
                + content[at + 8 * len(value) :]
            )


def _changed_tree(damage: Damage, path: Path, content: bytes) -> bytes | None:
    """Change what a file says: YAML, JSON, the header of safetensors, or the pickle in a zip."""
    try:
        if path.suffix == ".yaml":
            documents = list(yaml.load_all(content, Loader=yaml.CSafeLoader))
            several = len(documents) > 1
            changed = _mutated(documents if several else documents[0], damage)
            written = changed if several and isinstance(changed, list) else [changed]
            return yaml.dump_all(written, allow_unicode=True).encode()
        if path.suffix == ".json":
            return json.dumps(_mutated(json.loads(content), damage)).encode()
        if path.suffix == ".safetensors":
            end = 8 + int.from_bytes(content[:8], "little")
            header = json.dumps(_mutated(json.loads(content[8:end]), damage)).encode()
            return struct.pack("<Q", len(header)) + header + content[end:]
        return _changed_archive(damage, content) if path.suffix == ".bin" else None
    except (
        ValueError,
        IndexError,
        yaml.YAMLError,
        zipfile.BadZipFile,
        RecursionError,
        OverflowError,
    ):
        return None  # damaged before, or of a value that the format does not have


def _changed_archive(damage: Damage, content: bytes) -> bytes:
    """Change a member of a zip archive, whose checksums stay right."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(changed, "w") as target:
        names = source.namelist()
        chosen = names[damage.at % len(names)] if damage.at % 3 == 0 else names[0]
        for name in names:
            inside = source.read(name)
            if name == chosen:
                if damage.kind == "remove":
                    continue
                value = repr(damage.value).encode(errors="replace")[:4]
                at = damage.at // 3 % (len(inside) + 1)
                inside = (
                    inside[:at] + value + inside[at + (len(value) if damage.kind == "set" else 0) :]
                )
            target.writestr(
                f"{name}x" if damage.kind == "rename" and name == chosen else name, inside
            )
    return changed.getvalue()


class _Pairs(dict[Any, Any]):
    """A mapping that is written with a second value for its last key."""

    def __init__(self, content: dict[Any, Any], value: Any) -> None:
        super().__init__(content)
        self.value = value

    def items(self) -> Any:
        pairs = list(super().items())
        return [*pairs, (pairs[-1][0], self.value)] if pairs else pairs


yaml.add_representer(
    _Pairs,
    lambda dumper, pairs: dumper.represent_mapping("tag:yaml.org,2002:map", list(pairs.items())),
)


def _mutated(tree: Any, damage: Damage) -> Any:
    """Change one place of a tree of mappings and lists."""
    places = list(_places(tree))
    if not places:
        return damage.value
    parent, key = places[damage.at % len(places)]
    if isinstance(parent, dict) and damage.kind in {"rename", "add"}:
        name = str(damage.value) if isinstance(damage.value, list | dict) else damage.value
        parent[name] = parent.pop(key) if damage.kind == "rename" else parent[key]
    elif damage.kind == "remove":
        del parent[key]
    elif damage.kind == "add":
        parent.insert(key, damage.value)
    else:
        parent[key] = _changed_value(parent[key], places, damage)
    return tree


def _changed_value(value: Any, places: Sequence[tuple[Any, Any]], damage: Damage) -> Any:
    match damage.kind:
        case "copy":
            above, name = places[damage.at // 7 % len(places)]
            return above[name]
        case "twice" if isinstance(value, dict):
            return _Pairs(value, damage.value)
        case "deepen":
            depth = damage.at // 7 % 2000 if damage.at % 5 == 0 else 3
            deep = damage.value
            for _ in range(depth):
                deep = [deep] if damage.at % 2 else {"a": deep}
            return deep
        case _:
            return damage.value


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all places of a tree, each as what it is in and its key or index."""
    keys = (
        list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    )
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
