"""SHA-256 digests of files, computed once per file state; several at once in the background.

A file state is what `stat` reports, so a file that is unchanged is not read again: digests are
cached in memory, and those of a user's files also on disk, from run to run. This module imports no
torch, so that large files are digested during the second that importing torch takes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from weakref import WeakValueDictionary

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.locks import file_lock

FileState = tuple[str, int, int, int]
"""Absolute path, size in bytes, modification time in ns, and inode of a file."""

_PIECE = 2**26  # bytes digested before another file gets its turn

_lock = Lock()
_digests: dict[FileState, Future[str]] = {}
_unfinished: SimpleQueue[tuple[Iterator[str | None], Future[str]]] = SimpleQueue()
_maps: WeakValueDictionary[FileState, mmap.mmap] = WeakValueDictionary()


def file_state(file: Path) -> FileState:
    """Return the state of a file without reading its content."""
    found = file.stat()
    return str(file.absolute()), found.st_size, found.st_mtime_ns, found.st_ino


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, hex; computed once per process and file state."""
    state = file_state(file)
    if state not in _digests:
        digest: Future[str] = Future()
        with file.open("rb") as opened:
            digest.set_result(hashlib.file_digest(opened, "sha256").hexdigest())
        _digests[state] = digest
    return _digests[state].result()


def files_digest(files: Iterable[Path]) -> str:
    """Return the joint digest of files, which are read side by side."""
    return joint_digest([digest.result() for digest in [_started(file) for file in files]])


def joint_digest(digests: Sequence[str]) -> str:
    """Return a single digest unchanged, several as the SHA-256 of their list; hex."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def digest_in_background(files: Iterable[Path]) -> None:
    """Start to digest files; errors are left to whoever asks for the digests."""
    for file in files:
        with suppress(OSError):
            _started(file)


def map_file(file: Path) -> mmap.mmap:
    """Map a file into memory, read-only; the map is shared by all users of the same file state."""
    state = file_state(file)
    with _lock:
        shared = _maps.get(state)
        if shared is None:
            with file.open("rb") as opened:
                shared = _maps[state] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return shared


def _started(file: Path) -> Future[str]:
    """Return the future digest of a file in its present state; start it if nobody has."""
    state = file_state(file)
    with _lock:
        if state not in _digests:
            _start_threads()
            _digests[state] = Future()
            _unfinished.put((_digest_in_pieces(file), _digests[state]))
        return _digests[state]


@cache
def _start_threads() -> None:
    """Start one thread per core, daemons: the process can end on an error without them."""
    for _ in range(os.cpu_count() or 1):
        Thread(target=_work, daemon=True).start()


def _work() -> None:
    """Digest one piece of each file in turn.

    All files thus advance together, as in a merge, so that whichever of the two comes second
    finds the pages in memory.
    """
    while True:
        pieces, result = _unfinished.get()
        try:
            digest = next(pieces)
        except Exception as error:  # noqa: BLE001 (else whoever waits for it would wait forever)
            result.set_exception(error)
            continue
        if digest is None:
            _unfinished.put((pieces, result))
        else:
            result.set_result(digest)


def _digest_in_pieces(file: Path) -> Iterator[str | None]:
    """Yield None after each piece of a file but the last step, which yields the digest."""
    digest = hashlib.sha256()
    if file.stat().st_size:  # an empty file cannot be mapped
        # Not read into a buffer: the copy would take a fifth of the time of the digest.
        content = memoryview(map_file(file))
        for start in range(0, len(content), _PIECE):
            digest.update(content[start : start + _PIECE])
            yield None
    yield digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DigestCache:
    """Digests of files on disk, keyed by file state.

    Attributes:
        state: the project's state folder, `.stockpot`.
    """

    state: Path

    @property
    def path(self) -> Path:
        """The file of the cache."""
        return self.state / "digests.json"

    def known(self, groups: Sequence[Sequence[Path]]) -> list[str] | None:
        """Return one digest per group of files without reading any; None if one is unknown.

        Args:
            groups: the files of each model.
        """
        cached = self._read()
        digests = [[cached.get(_state_key(file), "") for file in files] for files in groups]
        return [joint_digest(own) for own in digests] if all(map(all, digests)) else None

    def digest(self, groups: Sequence[Sequence[Path]]) -> list[str]:
        """Return one digest per group of files; unknown ones are computed and cached.

        Args:
            groups: the files of each model.

        Raises:
            InputError: a file cannot be read.
        """
        cached = self._read()
        files = [file for group in groups for file in group]
        missing = {file: key for file in files if (key := _state_key(file)) not in cached}
        digest_in_background(missing)
        new = {}
        for file, key in missing.items():
            try:
                new[key] = file_digest(file)
            except OSError as error:
                raise InputError(f"{file}: cannot be read ({error.strerror})") from error
        if new:
            self._add(new)
        digests = cached | new
        return [joint_digest([digests[_state_key(file)] for file in group]) for group in groups]

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # without the cache, files are read again
            return {}
        return content if isinstance(content, dict) else {}

    def _add(self, new: dict[str, str]) -> None:
        """Cache digests, and drop those of file states that no longer exist."""
        with file_lock(self.state / "locks" / "digests.lock"):
            cached = {key: digest for key, digest in self._read().items() if _is_current(key)}
            write_text(self.path, json.dumps(cached | new, indent=0, sort_keys=True) + "\n")


def _state_key(file: Path) -> str:
    return json.dumps(file_state(file))


def _is_current(key: str) -> bool:
    try:
        return _state_key(Path(json.loads(key)[0])) == key
    except (OSError, ValueError):
        return False
