"""Digests of merged models are kept by file state; of a file that just changed they are not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stockpot.storage.digests import files_digest, remember_digests
from stockpot.storage.known_digests import KnownDigests

OLD = 1_000_000_000  # seconds since 1970


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock forward, so that the files of the test are old."""
    now = time.time() + 60
    monkeypatch.setattr("stockpot.storage.known_digests.time.time", lambda: now)


@pytest.mark.usefixtures("later")
def test_a_digest_is_known_to_the_next_process_once_saved(file: Path, tmp_path: Path) -> None:
    known = KnownDigests.read(tmp_path / "cache" / "digests.json")
    key = known.key(file)
    assert key is not None
    known.add(key, "blake3:1")

    assert known.get(file) == "blake3:1"
    assert KnownDigests.read(known.path).get(file) is None
    known.save()
    assert KnownDigests.read(known.path).get(file) == "blake3:1"


def test_of_a_file_that_just_changed_nothing_is_known(file: Path, tmp_path: Path) -> None:
    os.utime(file, (OLD, OLD))  # the time of its content is set back, not that of its change

    assert KnownDigests.read(tmp_path / "digests.json").key(file) is None


@pytest.mark.usefixtures("later")
def test_a_change_is_seen_even_if_size_and_time_are_set_back(file: Path, tmp_path: Path) -> None:
    known = KnownDigests.read(tmp_path / "digests.json")
    os.utime(file, (OLD, OLD))
    before = known.key(file)
    time.sleep(0.02)  # more than a tick of the file system's clock

    file.write_bytes(b"changed")
    os.utime(file, (OLD, OLD))

    assert known.key(file) != before


@pytest.mark.usefixtures("later")
def test_saving_keeps_what_others_saved_and_drops_states_that_are_gone(
    file: Path, tmp_path: Path
) -> None:
    one, two = (KnownDigests.read(tmp_path / "digests.json") for _ in range(2))
    other = tmp_path / "other"
    other.write_bytes(b"other")
    for known, path, digest in ((one, file, "blake3:1"), (two, other, "blake3:2")):
        key = known.key(path)
        assert key is not None
        known.add(key, digest)
        known.save()
    read = KnownDigests.read(one.path)
    assert (read.get(file), read.get(other)) == ("blake3:1", "blake3:2")

    other.unlink()
    key = one.key(file)
    assert key is not None
    one.add(key, "blake3:1")
    one.save()

    assert len(KnownDigests.read(one.path).digests) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_damaged_cache_counts_as_empty(content: str, tmp_path: Path) -> None:
    path = tmp_path / "digests.json"
    path.write_text(content)

    assert KnownDigests.read(path).digests == {}


@pytest.mark.usefixtures("later")
def test_a_second_run_does_not_read_files_for_their_digests(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownDigests.read(tmp_path / "digests.json")
    monkeypatch.setattr(KnownDigests, "of_user", lambda: known)

    digest = files_digest([file], "blake3")
    remember_digests()

    assert KnownDigests.read(known.path).get(file) == digest
