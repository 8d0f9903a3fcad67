"""The files that hold a model's weights, and their digests: no weight is looked at.

It imports no torch, so that big files are digested while torch, which takes a second, is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock, Semaphore, Thread

from stockpot.errors import InputError

INDEX = "model.safetensors.index.json"
_NAMES = ("model.safetensors", "pytorch_model.bin")
_CHUNK = 2**23  # bytes: after each, another thread may have to be waited for

_lock = Lock()
_cores = Semaphore(os.cpu_count() or 1)  # a file each at a time, in the order begun
_digests: dict[tuple[Path, int, int], Future[str]] = {}


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


def _started(file: Path) -> Future[str]:
    """Return the digest of a file in the state it is in, begun now or before."""
    state = file.stat()
    key = (file.absolute(), state.st_size, state.st_mtime_ns)
    with _lock:
        if key not in _digests:
            _digests[key] = Future()
            # A daemon, so that an error elsewhere does not wait for it.
            Thread(target=_digest, args=(file, _digests[key]), daemon=True).start()
        return _digests[key]


def _digest(file: Path, future: Future[str]) -> None:
    digest, chunk = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    try:
        with _cores, file.open("rb", buffering=0) as opened:
            while count := opened.readinto(chunk):
                digest.update(chunk[:count])
    except OSError as error:
        future.set_exception(error)
    else:
        future.set_result(digest.hexdigest())


def _is_file_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and Path(name).name == name
        and name not in {"", ".", ".."}
        and "\0" not in name
    )
