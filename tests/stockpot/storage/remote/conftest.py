"""An S3 server on loopback, with a bucket, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3, s3_server

BUCKET = "shared"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """Return the server; each test uses a prefix of its own."""
    with s3_server() as server:
        server.files().mkdir(BUCKET)
        yield server


@pytest.fixture
def prefix(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return bucket and prefix of this test; s3fs finds the server in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"{BUCKET}/{tmp_path.parent.name}/{tmp_path.name}"
