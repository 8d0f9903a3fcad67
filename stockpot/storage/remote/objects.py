"""Objects of a shared store: files under the SHA-256 of their content.

The name says what the content must be, so that writing an object twice is harmless, a damaged one
is detected by whoever reads it, and sound bytes may replace it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from stockpot.errors import InputError, StageFailed
from stockpot.storage.digests import file_digest
from stockpot.storage.locks import file_lock
from stockpot.storage.remote.files import SharedFiles
from stockpot.storage.remote.retries import retried

T = TypeVar("T")

_PIECE_BYTES = 2**24  # read at once, and again after a failure
_PIECES_AT_ONCE = 4
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Damaged(StageFailed):
    """An object is missing, or its content is not what its name says."""


class Objects:
    """The objects of a shared store."""

    def __init__(self, files: SharedFiles, locks: Path) -> None:
        """Read and write objects.

        Args:
            files: of the store.
            locks: local folder of locks, so that processes do not download one object at once.
        """
        self._files = files
        self._locks = locks

    def put(self, file: Path, digest: str, *, replace: bool = False) -> None:
        """Upload a file with this digest unless the store has it, and verify what it has then.

        Args:
            file: to upload.
            digest: its SHA-256, hex.
            replace: whether to upload it even if the store reports the checksum of an object: that
                of what it once received, which may have been damaged since.

        Raises:
            InputError: it is not permitted, or the file has another digest.
            StageFailed: the store does not answer, or does not keep what it is sent.
        """
        if file_digest(file) != digest:
            raise InputError(
                f"{file}: its SHA-256 is not {digest[:12]}, which is recorded; the file was "
                "changed or damaged: delete it and run again"
            )
        name = object_name(digest)

        def upload_if_absent() -> None:
            is_same_size = self._size(name) == file.stat().st_size
            if replace or not is_same_size or not self._holds(name, file, digest):
                self._files.upload(file, name)
                if not self._holds(name, file, digest):
                    raise ConnectionError("what was stored is not what was sent")

        self._retried(name, "uploaded", upload_if_absent)

    def is_intact(self, digest: str) -> bool:
        """Read an object, and return whether its content is what its name says."""
        name = object_name(digest)
        try:
            size = self._retried(name, "read", lambda: self._files.size(name))
            return self._digest(name, size) == digest
        except FileNotFoundError:
            return False

    def fetch(self, digest: str, file: Path) -> None:
        """Download an object to a local file, which appears only when its digest is verified.

        A download that was killed is continued. A file that is there with this digest stays.

        Raises:
            Damaged: the object is missing, or was damaged in two downloads.
            InputError: the disk is full, or reading is not permitted.
            StageFailed: the store does not answer.
        """
        name = object_name(digest)
        part = file.with_name(f".{file.name}.{digest[:12]}.part")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self._locks / f"fetch-{digest}.lock"):
            if file.is_file() and file_digest(file) == digest:  # e.g. another process was faster
                return
            for _ in range(2):
                try:
                    found = self._download(name, part)
                except FileNotFoundError:
                    raise Damaged(f"{self._files.place(name)} is missing") from None
                if found == digest:
                    part.replace(file)
                    return
                part.unlink()
        raise Damaged(
            f"{self._files.place(name)} is damaged: its SHA-256 is {found[:12]}, not {digest[:12]}"
        )

    def _download(self, name: str, part: Path) -> str:
        """Append to a local file what it lacks of an object; return the digest of the file."""
        size = self._retried(name, "read", lambda: self._files.size(name))
        known = part.stat().st_size if part.is_file() else 0
        digest = hashlib.sha256()
        free = shutil.disk_usage(part.parent).free
        if size - known > free:
            raise InputError(_disk_full(part.parent, f"{size - known:,} bytes for", name, free))
        try:
            with part.open("a+b") as file:
                file.seek(0)
                while piece := file.read(_PIECE_BYTES):
                    digest.update(piece)
                for piece in self._pieces(name, known, size):
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())  # before the record that calls it complete
        except OSError as error:
            if error.errno not in _FULL:
                raise
            part.unlink()
            raise InputError(_disk_full(part.parent, "space for", name, 0)) from error
        return digest.hexdigest()

    def _pieces(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Read an object from a position to its end."""
        step = _PIECE_BYTES * _PIECES_AT_ONCE
        for first in range(start, size, step):
            last = min(first + step, size)
            starts = range(first, last, _PIECE_BYTES)
            ranges = [(begin, min(begin + _PIECE_BYTES, last)) for begin in starts]
            yield from self._retried(name, "read", partial(self._whole, name, ranges))

    def _whole(self, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Read ranges; some servers end an answer early without an error."""
        pieces = self._files.read_ranges(name, ranges)
        if [len(piece) for piece in pieces] != [end - start for start, end in ranges]:
            raise ConnectionError("the answer was cut short")
        return pieces

    def _digest(self, name: str, size: int) -> str:
        digest = hashlib.sha256()
        for piece in self._pieces(name, 0, size):
            digest.update(piece)
        return digest.hexdigest()

    def _holds(self, name: str, file: Path, digest: str) -> bool:
        """Whether the store has the bytes of a local file: by its checksum, else by reading."""
        size = file.stat().st_size
        return self._files.holds(name, file) or self._digest(name, size) == digest

    def _size(self, name: str) -> int | None:
        try:
            return self._files.size(name)
        except FileNotFoundError:
            return None

    def _retried(self, name: str, purpose: str, request: Callable[[], T]) -> T:
        return retried(self._files.place(name), purpose, request)


def object_name(digest: str) -> str:
    """Return the name of an object in a store."""
    return f"objects/{digest[:2]}/{digest}"


def _disk_full(folder: Path, needed: str, name: str, free: int) -> str:
    return (
        f"{folder}: the disk needs {needed} {name} of the store, got {free:,} bytes free; make "
        "room, for instance with `stockpot gc`, and run again"
    )
