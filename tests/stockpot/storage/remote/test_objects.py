"""Large objects on S3: in parts, continued, and through a network that fails."""

from __future__ import annotations

import errno
import hashlib
import random
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_server import S3, faulty_proxy

from stockpot.errors import InputError, StageFailed
from stockpot.storage.remote import retries
from stockpot.storage.remote.folder import FolderFiles
from stockpot.storage.remote.objects import Objects, object_name
from stockpot.storage.remote.s3 import S3Files

PART = 5 * 2**20  # the least that S3 allows
CONTENT = random.Random(0).randbytes(2 * PART + 1000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


def _objects(url: str, folder: Path) -> Objects:
    return Objects(S3Files(url, part_bytes=PART), folder / "locks")


def _uploads(s3: S3, prefix: str) -> list[dict[str, Any]]:
    bucket, _, key = prefix.partition("/")
    found = s3.files().call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
    uploads: list[dict[str, Any]] = found.get("Uploads", [])
    return uploads


def test_a_large_file_arrives_whole_though_many_requests_fail(
    s3: S3, prefix: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = file.with_name("copy")
    with faulty_proxy(s3, share=0.4) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        objects = _objects(f"s3://{prefix}", file.parent)
        objects.put(file, DIGEST)
        objects.fetch(DIGEST, copy)
        for _ in range(2):
            assert objects.is_intact(DIGEST)

    assert copy.read_bytes() == CONTENT
    assert not _uploads(s3, prefix)
    assert set(proxy.counts) == {"passed", "reset", "503", "slow", "cut"}


def test_an_upload_that_was_killed_is_continued(
    s3: S3, prefix: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, _, key = f"{prefix}/{object_name(DIGEST)}".partition("/")
    target, files = {"Bucket": bucket, "Key": key}, s3.files()
    upload = files.call_s3("create_multipart_upload", **target)["UploadId"]
    for number, part in ((1, CONTENT[:PART]), (2, b"x" * PART)):  # the second one is of no use
        files.call_s3("upload_part", UploadId=upload, PartNumber=number, Body=part, **target)
    sent: list[int] = []
    original = type(files)._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == "upload_part":
            sent.append(kwargs["PartNumber"])
        return await original(self, method, *args, **kwargs)

    monkeypatch.setattr(type(files), "_call_s3", counted)
    monkeypatch.setattr(type(files), "call_s3", _synchronous(counted))
    objects = _objects(f"s3://{prefix}", file.parent)

    objects.put(file, DIGEST)
    objects.put(file, DIGEST)  # nothing is left to do

    assert sorted(sent) == [2, 3]
    assert objects.is_intact(DIGEST)
    assert not _uploads(s3, prefix)


def _synchronous(method: Any) -> Any:
    from fsspec.asyn import sync_wrapper

    return sync_wrapper(method)


class _Counting(FolderFiles):
    """Counts the bytes that are read."""

    bytes_read = 0

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        parts = super().read_ranges(name, ranges)
        self.bytes_read += sum(map(len, parts))
        return parts


@pytest.mark.parametrize("damaged", [False, True])
def test_a_download_that_was_killed_is_continued(tmp_path: Path, file: Path, damaged: bool) -> None:
    files = _Counting(tmp_path / "store")
    objects, copy = Objects(files, tmp_path / "locks"), tmp_path / "copy"
    objects.put(file, DIGEST)
    part = tmp_path / f".copy.{DIGEST[:12]}.part"
    part.write_bytes(b"x" * PART if damaged else CONTENT[:PART])
    files.bytes_read = 0

    objects.fetch(DIGEST, copy)

    assert copy.read_bytes() == CONTENT
    rest = len(CONTENT) - PART
    assert files.bytes_read == (rest + len(CONTENT) if damaged else rest)
    assert not part.exists()


def test_of_several_processes_that_miss_an_object_one_downloads_it(
    tmp_path: Path, file: Path
) -> None:
    files = _Counting(tmp_path / "store")
    Objects(files, tmp_path / "locks").put(file, DIGEST)
    files.bytes_read = 0

    def fetch(_number: int) -> None:
        Objects(files, tmp_path / "locks").fetch(DIGEST, tmp_path / "copy")

    with ThreadPoolExecutor(3) as threads:
        [*threads.map(fetch, range(3))]

    assert files.bytes_read == len(CONTENT)


def test_a_full_disk_is_named_before_anything_is_read(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _Counting(tmp_path / "store")
    objects = Objects(files, tmp_path / "locks")
    objects.put(file, DIGEST)
    files.bytes_read = 0
    total, used, _ = shutil.disk_usage(tmp_path)
    usage = type(shutil.disk_usage(tmp_path))(total, used, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    said = r"the disk needs 10,486,760 bytes for objects/.*got 1,000 bytes free"
    with pytest.raises(InputError, match=said):
        objects.fetch(DIGEST, tmp_path / "copy")

    assert files.bytes_read == 0


def test_a_disk_that_fills_up_meanwhile_is_named_and_keeps_nothing(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = Objects(FolderFiles(tmp_path / "store"), tmp_path / "locks")
    objects.put(file, DIGEST)

    def full(*_: object) -> Iterator[bytes]:
        yield CONTENT[:PART]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(objects, "_pieces", full)
    with pytest.raises(InputError, match=r"the disk needs space for objects/"):
        objects.fetch(DIGEST, tmp_path / "copy")

    assert not [*tmp_path.glob("*copy*")]


def test_a_store_that_does_not_answer_is_named_without_credentials(
    s3: S3, prefix: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with faulty_proxy(s3, share=1.0, faults=("reset", "503")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint.replace("://", "://me:secret@"))
        objects = _objects(f"s3://{prefix}", file.parent)

        with pytest.raises(StageFailed) as caught:
            objects.put(file, DIGEST)

    said = str(caught.value)
    assert f"s3://{prefix}/{object_name(DIGEST)} could not be uploaded in 6 tries" in said
    assert "secret" not in said
    assert "run again" in said


@pytest.mark.parametrize(
    ("error", "kind", "times"),
    [(ConnectionError("reset"), StageFailed, 6), (PermissionError("denied"), InputError, 1)],
)
def test_the_tries_of_a_check_are_not_multiplied_by_those_of_its_upload(
    tmp_path: Path,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    kind: type[Exception],
    times: int,
) -> None:
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.001)
    reads: list[str] = []

    class Unreadable(FolderFiles):
        def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            reads.extend(name for _ in ranges)  # one range for a file of this size
            raise error

    with pytest.raises(kind, match=r"objects/.* (could not|cannot) be read"):
        Objects(Unreadable(tmp_path / "store"), tmp_path / "locks").put(file, DIGEST)

    assert len(reads) == times


def test_what_the_store_does_not_keep_is_an_error(tmp_path: Path, file: Path) -> None:
    class Forgetful(FolderFiles):
        def upload(self, file: Path, name: str) -> None:
            self.write(name, file.read_bytes()[:-1] + b"x")

    objects = Objects(Forgetful(tmp_path / "store"), tmp_path / "locks")
    retries_in = pytest.MonkeyPatch()
    with retries_in.context() as patch:
        patch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.001)
        with pytest.raises(StageFailed, match="what was stored is not what was sent"):
            objects.put(file, DIGEST)
