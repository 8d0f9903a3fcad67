"""The shared store of a project: which one it is, and whether it can be used."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

from stockpot.errors import InputError, reason_of
from stockpot.storage.atomic_files import write_json
from stockpot.storage.remote.files import SharedFiles
from stockpot.storage.remote.models import SharedModels
from stockpot.storage.remote.retries import retried

_MARKER = "stockpot-store.json"
_FORMAT = b'{"format": 1}\n'
_TRIES_TO_OPEN = 3
# A container may be named before an @, a port after a colon; S3's secrets may hold slashes.
_CREDENTIALS = re.compile(r"://[^/]*:(?!\d+(?:/|$)).*@|\?")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)(://|::)")
_ALMOST_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")


def check_address(address: str) -> str:
    """Return the address of a store, a path or a URL, if it can be one.

    Raises:
        ValueError: with the reason.
    """
    scheme = _SCHEME.match(address)
    if not address.strip() or "\0" in address:
        raise ValueError(f"must be a folder or a URL such as s3://bucket/prefix, got {address!r}")
    if scheme and _CREDENTIALS.search(address):
        raise ValueError(
            f"must hold no credentials and no query, got a {scheme[1]} URL with one; set them "
            "in the environment, see docs/how-to/shared-store.md"
        )
    if not scheme and (almost := _ALMOST_SCHEME.match(address)):
        raise ValueError(
            "must be a folder or a URL such as s3://bucket/prefix, in lower case with two "
            f"slashes, got one that begins with {almost[0]!r}"
        )
    if scheme and scheme[2] == "::":
        raise ValueError(f"must be one URL, got {address!r}, a chain of them")
    if scheme and not address.removeprefix(scheme[0]).strip("/"):
        raise ValueError(f"must name a bucket or a folder, got {address!r}")
    if scheme and scheme[1] == "file" and not address.startswith("file:///"):
        raise ValueError(f"must be an absolute path after file://, got {address!r}")
    return address


def use_store(root: Path, address: str | None) -> None:
    """Let all processes of a project use a shared store, after checking that they can.

    The address is kept in `.stockpot/store.json`, where workers find it. A marker in the store is
    read and written, which shows that both are permitted.

    Args:
        root: the project root.
        address: of the store; a path is relative to the root. None: the project has none.

    Raises:
        InputError: it cannot be used: no such bucket, no permission, another format.
        StageFailed: it does not answer.
    """
    note = _note(root)
    if address is None:
        note.unlink(missing_ok=True)
        return
    url = _whole_address(root, address)
    _check(_files(url))
    write_json(note, {"address": url})


def is_set_up(root: Path, address: str) -> bool:
    """Return whether a store has a marker, which its first use writes; nothing is written.

    Raises:
        InputError: it cannot be read, or is of another format.
        StageFailed: it does not answer.
    """
    return _marker(_files(_whole_address(root, address))) is not None


def store_of(root: Path) -> SharedModels | None:
    """Return the shared models of a project; None if it has no store but its own."""
    try:
        text = _note(root).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    locks = root / ".stockpot" / "locks"
    return SharedModels(_files(json.loads(text)["address"]), locks)


@lru_cache
def _files(address: str) -> SharedFiles:
    scheme = _SCHEME.match(address)
    if scheme is None or scheme[1] == "file":
        from stockpot.storage.remote.folder import FolderFiles

        return FolderFiles(Path(address.removeprefix("file://")))
    if scheme[1] in ("s3", "s3a"):
        from stockpot.storage.remote.s3 import S3Files

        return S3Files(address)
    from stockpot.storage.remote.urls import UrlFiles

    return UrlFiles(address)


def _whole_address(root: Path, address: str) -> str:
    """Return a URL as it is, and a path as an absolute one."""
    if _SCHEME.match(address):
        return address
    # A queued DVC experiment runs in a copy, which shares this folder with the project.
    project = _note(root).parent.resolve().parent
    return str((project / Path(address).expanduser()).resolve())


def _marker(files: SharedFiles) -> bytes | None:
    """Read the marker of a store; None without one."""
    place = files.place(_MARKER)
    try:
        found = retried(place, "read", lambda: files.read(_MARKER), tries=_TRIES_TO_OPEN)
    except FileNotFoundError:
        return None
    if found != _FORMAT:
        raise InputError(
            f"store: {place} must say {_FORMAT.decode().strip()}, got {found[:60]!r}; it is of "
            "another version of stockpot, or of something else: choose another place"
        )
    return found


def _check(files: SharedFiles) -> None:
    """Read and write the marker of a store."""
    _marker(files)
    place = files.place(_MARKER)
    try:
        retried(place, "written", lambda: files.write(_MARKER, _FORMAT), tries=_TRIES_TO_OPEN)
    except FileNotFoundError as error:
        raise InputError(
            f"store: {files.address}: there is no such bucket or folder ({reason_of(error)}); "
            "create it, or correct store in params.yaml"
        ) from error
    except OSError as error:
        raise InputError(f"store: {files.address} cannot be used: {reason_of(error)}") from error


def _note(root: Path) -> Path:
    return root / ".stockpot" / "store.json"
