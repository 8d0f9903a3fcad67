"""The files that hold a model's weights, and their digests: no weight is looked at.

It imports no torch, so that big files are digested while torch, which takes a second, is.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Lock, Thread, current_thread
from weakref import WeakValueDictionary

from stockpot.errors import InputError

INDEX = "model.safetensors.index.json"
FileState = tuple[str, int, int, int]
"""What tells a file from a changed one: its path, size, time of the change in ns, and inode."""

_NAMES = ("model.safetensors", "pytorch_model.bin")
_PIECE = 2**26  # bytes: after each, another thread may have to be waited for

_lock = Lock()
_digests: dict[FileState, Future[str]] = {}
_begun: deque[tuple[Iterator[str | None], Future[str]]] = deque()
_threads: set[Thread] = set()
_maps: WeakValueDictionary[FileState, mmap.mmap] = WeakValueDictionary()


def locate_weights(path: Path) -> tuple[Path, ...]:
    """Return the files with the weights of a model: `path` itself, or those of the folder.

    Raises:
        InputError: there are none, or it is not clear which, or the index of shards is damaged.
    """
    if not path.is_dir():
        return (path,)
    if (path / INDEX).is_file():
        return tuple(path / shard for shard in sorted(set(read_index(path / INDEX).values())))
    for name in _NAMES:
        if (path / name).is_file():
            return (path / name,)
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return (found[0],)
    listed = [file.name for file in found] or "none"
    raise InputError(
        f"{path}: expected model.safetensors, {INDEX} or pytorch_model.bin, or one other "
        f"safetensors file; found {listed}"
    )


def read_index(index: Path) -> dict[str, str]:
    """Read which shard each tensor is in.

    Raises:
        InputError: it is damaged, or names a file that is not of its folder.
    """
    try:
        shard_of: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(shard_of.values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index}: not an index of shards ({error})") from error
    for shard in shards:
        if not _is_file_name(shard):
            raise InputError(f"{index}: names {shard!r}, which is not a file of its folder")
    return shard_of


def digest_ahead(paths: Iterable[Path]) -> None:
    """Begin to digest the weights of models in the background; what cannot be read is left out."""
    for path in paths:
        try:
            for file in locate_weights(path):
                _started(file)
        except (InputError, OSError):
            continue  # whoever opens the model says so


def digest_weights(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the files' digests, or of the one file; hex."""
    digests = [begun.result() for begun in [_started(file) for file in files]]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def file_state(file: Path) -> FileState:
    """Return the state that a file is in, without a look at its content."""
    found = file.stat()
    return str(file.absolute()), found.st_size, found.st_mtime_ns, found.st_ino


def map_file(file: Path) -> mmap.mmap:
    """Map a file into memory, to be read only; who asks for it again gets the same map."""
    state = file_state(file)
    with _lock:
        held = _maps.get(state)
        if held is None:
            with file.open("rb") as opened:
                held = _maps[state] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return held


def _started(file: Path) -> Future[str]:
    """Return the digest of a file in the state it is in, begun now or before."""
    state = file_state(file)
    with _lock:
        if state not in _digests:
            _digests[state] = Future()
            _begun.append((_digested(file), _digests[state]))
            if len(_threads) < (os.cpu_count() or 1):
                # A daemon, so that an error elsewhere does not wait for it.
                thread = Thread(target=_digest_in_turn, daemon=True)
                _threads.add(thread)
                thread.start()
        return _digests[state]


def _digest_in_turn() -> None:
    """Digest a piece of each file in turn, until all are done.

    So all are gone over from start to end side by side, as a merge does: what one of the two has
    read of a disk, the other finds in memory.
    """
    while task := _next_file():
        pieces, result = task
        try:
            digest = next(pieces)
        except OSError as error:
            result.set_exception(error)
            continue
        if digest is None:
            _begun.append(task)
        else:
            result.set_result(digest)


def _next_file() -> tuple[Iterator[str | None], Future[str]] | None:
    """Take a file whose turn it is; None where there is no more work for this thread."""
    with _lock:
        if _begun:
            return _begun.popleft()
        _threads.remove(current_thread())
        return None


def _digested(file: Path) -> Iterator[str | None]:
    """Digest a file: yield None after each piece, and then the digest."""
    digest = hashlib.sha256()
    if file.stat().st_size:  # nothing cannot be mapped
        # Not read into a buffer: that would take a fifth of the time of the digest.
        held = memoryview(map_file(file))
        for start in range(0, len(held), _PIECE):
            digest.update(held[start : start + _PIECE])
            yield None
    yield digest.hexdigest()


def _is_file_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in {"", ".", ".."}
        and "\0" not in name
    )
