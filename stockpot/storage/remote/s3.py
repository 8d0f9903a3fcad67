"""A shared store on S3, or on a server with its interface."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from stockpot.storage.remote.multipart import PART_BYTES, MultipartUpload, etag
from stockpot.storage.remote.urls import UrlFiles


class S3Files(UrlFiles):
    """Objects of a bucket, under a prefix."""

    def __init__(self, url: str, part_bytes: int = PART_BYTES) -> None:
        """Connect to nothing yet.

        Args:
            url: without credentials.
            part_bytes: size of the parts of larger files, in which uploads are continued.

        Raises:
            InputError: s3fs is not installed.
        """
        super().__init__(url)
        self._files.retries = 1  # s3fs would repeat what this package repeats
        self._part_bytes = part_bytes

    def size(self, name: str) -> int:
        """Return the size of an object in bytes."""
        return int(self._head(name)["ContentLength"])

    def read(self, name: str) -> bytes:
        """Return the content of a small object, in one request."""
        return bytes(self._files.cat_file(self._path(name), max_concurrency=1))

    def create(self, name: str, content: bytes) -> None:
        """Write a small object that does not exist, by the condition `If-None-Match: *`.

        On servers that refuse the condition, or ignore it, the last of several writers decides.
        """
        try:
            super().create(name, content)
        except OSError as error:
            if _code(error) == "PreconditionFailed":
                raise FileExistsError(errno.EEXIST, "exists", self._path(name)) from error
            if error.errno != errno.ENOSYS:
                raise
            self._create_unconditionally(name, content)

    def upload(self, file: Path, name: str) -> None:
        """Write a file of any size; an upload of it that was killed is continued."""
        if file.stat().st_size > self._part_bytes:
            MultipartUpload(self._files, file, self._path(name), self._part_bytes).run()
        else:
            super().upload(file, name)

    def holds(self, name: str, file: Path) -> bool | None:
        """Compare a file with the checksum of what S3 received.

        It is not one of the content where the server encrypts with keys of its own, nor for other
        sizes of parts: then None.
        """
        found = str(self._head(name).get("ETag", "")).strip('"')
        return True if found == etag(file, self._part_bytes) else None

    def _head(self, name: str) -> Any:
        bucket, _, key = self._path(name).partition("/")
        return self._files.call_s3("head_object", Bucket=bucket, Key=key)

    def _make_parent(self, name: str) -> None:
        """Do nothing: there are no folders."""


def _code(error: OSError) -> str:
    """Return the code of S3's answer behind an error; empty without one."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
