"""Digests of files, computed once per file state; several at once in the background.

Models that are merged on disk have BLAKE3 digests, which take half the time of SHA-256; all other
files, and models in pedigrees of earlier versions, have SHA-256.

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
from typing import Any, Literal
from weakref import WeakValueDictionary

from blake3 import blake3

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.known_digests import KnownDigests
from stockpot.storage.locks import file_lock

Algorithm = Literal["blake3", "sha256"]

NO_DIGEST = {"blake3": "blake3:" + "0" * 64, "sha256": "0" * 64}
"""Placeholders, as long as the digests, until these are known."""

FileState = tuple[str, int, int, int]
"""Absolute path, size in bytes, modification time in ns, and inode of a file."""

_PIECE = 2**26  # bytes digested before another file gets its turn

_lock = Lock()
_digests: dict[tuple[Algorithm, FileState], Future[str]] = {}
_unfinished: SimpleQueue[tuple[Iterator[str | None], Future[str]]] = SimpleQueue()
_maps: WeakValueDictionary[FileState, mmap.mmap] = WeakValueDictionary()


def file_state(file: Path) -> FileState:
    """Return the state of a file without reading its content."""
    found = file.stat()
    return str(file.absolute()), found.st_size, found.st_mtime_ns, found.st_ino


def algorithm_of(digest: str) -> Algorithm:
    """Return the algorithm of a digest: those by BLAKE3 begin with its name."""
    return "blake3" if digest.startswith("blake3:") else "sha256"


def shortened(digest: str) -> str:
    """Return the algorithm, if it is not SHA-256, and the first 12 hex digits."""
    name, colon, digits = digest.rpartition(":")
    return f"{name}{colon}{digits[:12]}"


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, hex; computed once per process and file state."""
    key: tuple[Algorithm, FileState] = ("sha256", file_state(file))
    if key not in _digests:
        digest: Future[str] = Future()
        with file.open("rb") as opened:
            digest.set_result(hashlib.file_digest(opened, "sha256").hexdigest())
        _digests[key] = digest
    return _digests[key].result()


def files_digest(files: Iterable[Path], algorithm: Algorithm) -> str:
    """Return the joint digest of files, which are read side by side."""
    digests = [_started(file, algorithm) for file in files]
    return joint_digest([digest.result() for digest in digests], algorithm)


def joint_digest(digests: Sequence[str], algorithm: Algorithm) -> str:
    """Return a single digest unchanged, several as the digest of their list."""
    if len(digests) == 1:
        return digests[0]
    return text_digest("\n".join(digests), algorithm)


def text_digest(text: str, algorithm: Algorithm) -> str:
    """Return the digest of a text."""
    return _text_of(_new(algorithm, text.encode()), algorithm)


def digest_in_background(files: Iterable[Path], algorithm: Algorithm) -> None:
    """Start to digest files; errors are left to whoever asks for the digests."""
    for file in files:
        with suppress(OSError):
            _started(file, algorithm)


def remember_digests() -> None:
    """Keep the digests of models for later runs."""
    KnownDigests.of_user().save()


def map_file(file: Path) -> mmap.mmap:
    """Map a file into memory, read-only; the map is shared by all users of the same file state."""
    state = file_state(file)
    with _lock:
        shared = _maps.get(state)
        if shared is None:
            with file.open("rb") as opened:
                shared = _maps[state] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return shared


def _started(file: Path, algorithm: Algorithm) -> Future[str]:
    """Return the future digest of a file in its present state; start it if nobody has."""
    key = algorithm, file_state(file)
    with _lock:
        if key not in _digests:
            _digests[key] = Future()
            known = KnownDigests.of_user().get(file) if algorithm == "blake3" else None
            if known is not None:
                _digests[key].set_result(known)
            else:
                _start_threads()
                _unfinished.put((_digest_in_pieces(file, algorithm), _digests[key]))
        return _digests[key]


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


def _digest_in_pieces(file: Path, algorithm: Algorithm) -> Iterator[str | None]:
    """Yield None after each piece of a file but the last step, which yields the digest."""
    known = KnownDigests.of_user()
    key = known.key(file)
    digest = _new(algorithm)
    if file.stat().st_size:  # an empty file cannot be mapped
        # Not read into a buffer: the copy would take a fifth of the time of the digest.
        content = memoryview(map_file(file))
        for start in range(0, len(content), _PIECE):
            digest.update(content[start : start + _PIECE])
            yield None
    text = _text_of(digest, algorithm)
    if algorithm == "blake3" and key is not None and known.key(file) == key:
        known.add(key, text)
    yield text


def _new(algorithm: Algorithm, content: bytes = b"") -> Any:
    return blake3(content) if algorithm == "blake3" else hashlib.sha256(content)


def _text_of(digest: Any, algorithm: Algorithm) -> str:
    return f"{'blake3:' if algorithm == 'blake3' else ''}{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class DigestCache:
    """SHA-256 digests of a project's imported files on disk, keyed by file state.

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
        return [joint_digest(own, "sha256") for own in digests] if all(map(all, digests)) else None

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
        digest_in_background(missing, "sha256")
        new = {}
        for file, key in missing.items():
            try:
                new[key] = file_digest(file)
            except OSError as error:
                raise InputError(f"{file}: cannot be read ({error.strerror})") from error
        if new:
            self._add(new)
        digests = cached | new
        return [
            joint_digest([digests[_state_key(file)] for file in group], "sha256")
            for group in groups
        ]

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
