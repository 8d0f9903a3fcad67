"""Files by name in a shared store: what its folder, or its URL, must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path


class SharedFiles(ABC):
    """The files of a shared store. Names are relative, with slashes.

    A missing file is a FileNotFoundError, and a request that is not permitted a PermissionError.
    Other failures, such as a connection reset, are exceptions of any kind: another try may succeed.
    """

    def __init__(self, address: str) -> None:
        """Name the place in messages by `address`, which holds no credentials."""
        self.address = address

    def place(self, name: str) -> str:
        """Return the address of a file, for messages."""
        return f"{self.address}/{name}"

    @abstractmethod
    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a small file."""

    @abstractmethod
    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return parts of a file, each from its first byte to before its last."""

    @abstractmethod
    def names(self, folder: str) -> set[str]:
        """Return the names of the files in a folder, without the folder's; empty if none is."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a small file, in place of one that is there."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> None:
        """Write a small file.

        Raises:
            FileExistsError: it is there already; of several writers at once, one succeeds.
        """

    @abstractmethod
    def upload(self, file: Path, name: str) -> None:
        """Write a file of any size, in place of one that is there."""

    def holds(self, name: str, file: Path) -> bool | None:  # noqa: ARG002 (for those that know)
        """Return whether the store reports the checksum of a local file; None if it cannot say."""
        return None
