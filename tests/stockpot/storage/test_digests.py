from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from stockpot.errors import InputError
from stockpot.storage import digests
from stockpot.storage.digests import DigestCache


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(tmp_path / ".stockpot")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_a_model_of_one_file_has_its_digest_one_of_several_that_of_all(
    cache: DigestCache, files: list[Path]
) -> None:
    one, both = cache.digest([files[:1], files])

    assert one == sha256(b"a")
    assert both == sha256(f"{sha256(b'a')}\n{sha256(b'b')}".encode())


def test_digests_are_known_once_they_were_formed(cache: DigestCache, files: list[Path]) -> None:
    assert cache.known([files]) is None

    digests = cache.digest([files])

    assert cache.known([files]) == DigestCache(cache.state).known([files]) == digests
    assert cache.known([files, []]) is not None


def test_a_file_whose_state_has_changed_is_not_known(cache: DigestCache, files: list[Path]) -> None:
    before = cache.digest([files])
    os.utime(files[0], ns=(0, 0))

    assert cache.known([files]) is None
    assert cache.digest([files]) == before
    assert len(cache.path.read_text().splitlines()) == 4  # two files in one state each


def test_known_files_are_not_read(cache: DigestCache, files: list[Path]) -> None:
    before = cache.digest([files])
    time = files[0].stat().st_mtime_ns
    files[0].write_bytes(b"x")  # as long, and set back: only its content differs
    os.utime(files[0], ns=(time, time))

    assert cache.known([files]) == cache.digest([files]) == before


def test_a_damaged_cache_is_formed_anew(cache: DigestCache, files: list[Path]) -> None:
    expected = cache.digest([files])
    cache.path.write_text("{")

    assert cache.known([files]) is None
    assert cache.digest([files]) == expected == cache.known([files])


def test_a_folder_in_place_of_a_file_is_an_error(cache: DigestCache, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read"):
        cache.digest([[tmp_path]])


def test_whoever_waits_for_a_digest_gets_any_error_of_the_thread_that_reads(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncated_meanwhile(_file: Path) -> None:
        raise ValueError("cannot mmap an empty file")

    monkeypatch.setattr(digests, "map_file", truncated_meanwhile)

    with pytest.raises(ValueError, match="cannot mmap an empty"):
        digests._started(files[0], "sha256").result(timeout=20)
