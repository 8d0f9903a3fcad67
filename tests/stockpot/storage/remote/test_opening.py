"""A store that cannot be used is refused before any work, with a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from s3_server import S3, faulty_proxy

from stockpot.config import load_experiment
from stockpot.errors import InputError, StageFailed
from stockpot.storage.remote import retries
from stockpot.storage.remote.opening import check_address, store_of, use_store
from stockpot.storage.remote.s3 import S3Files
from stockpot.storage.store import Store

PARAMS = "sweep: {space: {epochs: 1}}\nsoups: [{name: uniform, select: uniform}]\n"


def _refused(root: Path, address: str) -> str:
    with pytest.raises((InputError, StageFailed)) as caught:
        use_store(root, address)
    assert store_of(root) is None
    return str(caught.value)


@pytest.mark.usefixtures("prefix")
def test_a_missing_bucket_is_named(tmp_path: Path) -> None:
    said = _refused(tmp_path, "s3://no-such-bucket/x")

    assert "store: s3://no-such-bucket/x: there is no such bucket or folder" in said
    assert "correct store in params.yaml" in said


def test_wrong_credentials_are_named(s3: S3, prefix: str, tmp_path: Path) -> None:
    s3.check_credentials(after=0)
    try:
        said = _refused(tmp_path, f"s3://{prefix}/wrong")
    finally:
        s3.check_credentials(after=None)

    assert f"store: s3://{prefix}/wrong/stockpot-store.json cannot be read" in said
    assert "check the credentials" in said
    assert "secret-of-tester" not in said


def test_missing_credentials_are_named(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert "Unable to locate credentials" in _refused(tmp_path, f"s3://{prefix}/none")


def test_a_server_that_does_not_answer_is_named(
    s3: S3, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with faulty_proxy(s3, share=1.0, faults=("503",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        said = _refused(tmp_path, f"s3://{prefix}/away")

    assert f"s3://{prefix}/away/stockpot-store.json could not be read in 3 tries" in said


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "stockpot-store.json").write_text('{"format": 2}')

    assert "another version of stockpot" in _refused(tmp_path / "project", f"{tmp_path}/store")


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").touch()

    assert f"store: {tmp_path}/store" in _refused(tmp_path / "project", "../store")


def test_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    assert "store: nonsense://x" in _refused(tmp_path, "nonsense://x")


def test_a_server_without_conditions_still_does_not_overwrite(
    s3: S3, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty_proxy(s3, share=1.0, faults=("no conditions",)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        files = S3Files(f"s3://{prefix}")
        files.create("record", b"first")

        with pytest.raises(FileExistsError):
            files.create("record", b"second")

    assert files.read("record") == b"first"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("s3://key:secret@bucket/x", "no credentials"),
        ("s3://key:a/secret@bucket/x", "no credentials"),
        ("s3://bucket/x?versionId=1", "no query"),
        ("S3://key:secret@bucket/x", "one that begins with 'S3:/'"),
        ("s3:/bucket/x", "one that begins with 's3:/'"),
        ("file://folder/x", "must be an absolute path"),
        ("s3://", "must name a bucket"),
        ("simplecache::s3://bucket", "must be one URL"),
        ("", "must be a folder or a URL"),
    ],
)
def test_an_address_that_cannot_be_is_an_error_of_its_field(
    tmp_path: Path, address: str, reason: str
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(f"{PARAMS}store: '{address}'\n")

    with pytest.raises(InputError, match=rf"^params.yaml: store: .*{re.escape(reason)}") as caught:
        load_experiment(params, [])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["sftp://host:22/a@b", "az://container@account.example.org/x", "c/s:/x", "../s"]
)
def test_a_port_a_container_and_a_path_are_no_credentials(address: str) -> None:
    assert check_address(address) == address


def test_any_file_system_of_fsspec_can_hold_a_store(tmp_path: Path) -> None:
    address = f"memory://{tmp_path.name}/store"
    for name in ("a", "b"):
        use_store(tmp_path / name, address)
    made = Store(tmp_path / "a").save("base", "key", "base", {"weight": torch.ones(3)}, {})

    assert Store(tmp_path / "b").find("base", "key", "base") == made
