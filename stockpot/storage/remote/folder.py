"""A shared store in a folder, such as one on a network file system."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from stockpot.storage.atomic_files import atomic_path
from stockpot.storage.remote.files import SharedFiles

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)  # EACCES: not permitted


class FolderFiles(SharedFiles):
    """Files that appear under their names when they are complete, and are created only once."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which may not exist yet."""
        super().__init__(str(folder))
        self._folder = folder

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return (self._folder / name).stat().st_size

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        return (self._folder / name).read_bytes()

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return parts of a file."""
        parts = []
        with (self._folder / name).open("rb") as file:
            for start, end in ranges:
                file.seek(start)
                parts.append(file.read(end - start))
        return parts

    def names(self, folder: str) -> set[str]:
        """Return the names of the files in a folder."""
        place = self._folder / folder
        return {path.name for path in place.iterdir()} if place.is_dir() else set()

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, atomically."""
        with atomic_path(self._folder / name) as temporary:
            temporary.write_bytes(content)

    def create(self, name: str, content: bytes) -> None:
        """Write a small file that does not exist, atomically.

        On file systems without hard links, of several writers at once the last one decides.
        """
        path = self._folder / name
        own = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
        with atomic_path(own) as temporary:
            temporary.write_bytes(content)
        try:
            os.link(own, path)  # unlike a rename, it fails if the file exists
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if path.exists():
                raise FileExistsError(errno.EEXIST, "exists", str(path)) from error
            own.replace(path)
        finally:
            own.unlink(missing_ok=True)

    def upload(self, file: Path, name: str) -> None:
        """Copy a file, atomically."""
        with atomic_path(self._folder / name) as temporary:
            shutil.copyfile(file, temporary)
