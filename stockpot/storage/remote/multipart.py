"""Large uploads to S3 in parts; an upload that was killed is continued, and leaves nothing behind.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

PART_BYTES = 2**26
_MOST_PARTS = 10_000
_AT_ONCE = 4  # parts in flight, all in memory


class MultipartUpload:
    """The upload of one file, whose name says what its content is.

    Since all uploads under a name are of equal bytes, parts that another process has uploaded,
    even one that is still at it, are used after a comparison of their MD5.
    """

    def __init__(self, files: Any, file: Path, path: str, part_bytes: int) -> None:
        """Upload nothing yet.

        Args:
            files: the S3 file system of s3fs.
            file: to upload.
            path: bucket and key.
            part_bytes: size of each part but the last.
        """
        self._files, self._file = files, file
        self._target = dict(zip(("Bucket", "Key"), path.split("/", 1), strict=True))
        self._part_bytes = _part_size(file, part_bytes)

    def run(self) -> None:
        """Upload the parts that the server lacks, and join all.

        Raises:
            InterruptedError: another process has joined the parts, or aborted the upload.
            OSError: a request failed.
        """
        others = self._unfinished()
        create = "create_multipart_upload"
        upload = others[0] if others else self._call(create, **self._target)["UploadId"]
        known = self._parts(upload)
        numbers = range(1, ceil(self._file.stat().st_size / self._part_bytes) + 1)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            tags = [*threads.map(lambda n: self._put(upload, n, known.get(n)), numbers)]
        parts = [
            {"PartNumber": number, "ETag": tag} for number, tag in zip(numbers, tags, strict=True)
        ]
        self._of(upload, "complete_multipart_upload", MultipartUpload={"Parts": parts})
        for other in self._unfinished():  # whoever is at it finds the whole object instead
            with suppress(FileNotFoundError):
                self._call("abort_multipart_upload", UploadId=other, **self._target)

    def _unfinished(self) -> list[str]:
        """Return the ids of the unfinished uploads of this file, the oldest, which all join, first.

        There are several if the answer to a request for a new one was lost.
        """
        bucket, key = self._target["Bucket"], self._target["Key"]
        found = self._call("list_multipart_uploads", Bucket=bucket, Prefix=key)
        same = [each for each in found.get("Uploads", []) if each["Key"] == key]
        in_order = sorted(same, key=lambda each: (each["Initiated"], each["UploadId"]))
        return [each["UploadId"] for each in in_order]

    def _parts(self, upload: str) -> dict[int, str]:
        """Return the MD5 of the parts that the server has, by number."""
        found: dict[int, str] = {}
        marker = 0
        while True:
            answer = self._of(upload, "list_parts", PartNumberMarker=marker)
            found |= {each["PartNumber"]: each["ETag"] for each in answer.get("Parts", [])}
            if not answer.get("IsTruncated"):
                return found
            marker = answer["NextPartNumberMarker"]

    def _put(self, upload: str, number: int, known: str | None) -> str:
        """Upload a part unless the server has it; return its tag."""
        with self._file.open("rb") as file:
            file.seek((number - 1) * self._part_bytes)
            part = file.read(self._part_bytes)
        if known is not None and known.strip('"') == _md5(part).hexdigest():
            return known
        answer = self._of(upload, "upload_part", PartNumber=number, Body=part)
        return str(answer["ETag"])

    def _of(self, upload: str, method: str, **options: Any) -> Any:
        """Make a request about an upload."""
        try:
            return self._call(method, UploadId=upload, **self._target, **options)
        except FileNotFoundError as error:
            raise InterruptedError("another process ended this upload") from error

    def _call(self, method: str, **options: Any) -> Any:
        return self._files.call_s3(method, **options)


def etag(file: Path, part_bytes: int) -> str:
    """Return the tag that S3 gives to a file: uploaded at once, or in parts of this size."""
    size = _part_size(file, part_bytes)
    parts = [_md5(part) for part in _read(file, size)]
    if len(parts) == 1:
        return str(parts[0].hexdigest())
    joint = _md5(b"".join(part.digest() for part in parts)).hexdigest()
    return f"{joint}-{len(parts)}"


def _part_size(file: Path, part_bytes: int) -> int:
    """Return the size of parts: larger for a file that would have too many."""
    return max(part_bytes, ceil(file.stat().st_size / _MOST_PARTS))


def _read(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while part := opened.read(size):
            yield part


def _md5(content: bytes) -> Any:
    return hashlib.md5(content, usedforsecurity=False)
