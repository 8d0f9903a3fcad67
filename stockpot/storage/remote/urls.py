"""A shared store at a URL of fsspec: an object store, or a server's files.

Credentials and endpoints are those that the file system itself finds: in the environment, in its
own files, or in fsspec's configuration.
Source: https://filesystem-spec.readthedocs.io/en/latest/features.html#configuration.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stockpot.errors import InputError
from stockpot.storage.remote.files import SharedFiles


class UrlFiles(SharedFiles):
    """Files of a file system that fsspec knows."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet.

        Args:
            url: without credentials.

        Raises:
            InputError: no installed package knows the protocol.
        """
        super().__init__(url.rstrip("/"))
        self._files, self._root = _file_system(url)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return int(self._files.info(self._path(name))["size"])

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        return bytes(self._files.cat_file(self._path(name)))

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return parts of a file, which are read side by side where the file system can."""
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        paths = [self._path(name)] * len(ranges)
        parts: list[bytes] = self._files.cat_ranges(paths, starts, ends, on_error="raise")
        return parts

    def names(self, folder: str) -> set[str]:
        """Return the names of the files in a folder."""
        try:
            found = self._files.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return set()
        return {str(path).rpartition("/")[2] for path in found}

    def write(self, name: str, content: bytes) -> None:
        """Write a small file."""
        self._make_parent(name)
        self._files.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> None:
        """Write a small file that does not exist, with a condition where the file system has it.

        Where it has none, of several writers at the same moment the last one decides.
        """
        self._make_parent(name)
        try:
            self._files.pipe_file(self._path(name), content, mode="create")
        except TypeError:  # a file system without `mode`
            self._create_unconditionally(name, content)

    def upload(self, file: Path, name: str) -> None:
        """Write a file of any size."""
        self._make_parent(name)
        self._files.put_file(str(file), self._path(name))

    def _create_unconditionally(self, name: str, content: bytes) -> None:
        if self._files.exists(self._path(name)):
            raise FileExistsError(errno.EEXIST, "exists", self._path(name))
        self._files.pipe_file(self._path(name), content)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_parent(self, name: str) -> None:
        """Create the folder of a file, in file systems that have folders."""
        self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)


def _file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it without a slash at the end."""
    import fsspec

    try:
        # An instance of its own: other users of the process keep their settings.
        files, root = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise InputError(
            f"store: {url} needs a package that is not installed ({error}); for S3, "
            "`pip install 'stockpot[s3]'`"
        ) from error
    except (ValueError, TypeError) as error:
        raise InputError(f"store: {url} is not an address of fsspec: {error}") from error
    return files, root.rstrip("/")
