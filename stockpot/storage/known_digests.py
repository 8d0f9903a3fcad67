"""Digests of models that were merged before, kept in the user's cache folder by file state.

A second merge of the same models does not read them for their digests.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stockpot.storage.atomic_files import write_text
from stockpot.storage.locks import file_lock

_RECENT = 2.0  # seconds: the coarsest clock of a common file system


@dataclass(frozen=True, slots=True)
class KnownDigests:
    """Digests of files in a JSON file.

    Attributes:
        path: the file.
        digests: by file state, as read and added since.
    """

    path: Path
    digests: dict[str, str] = field(default_factory=dict)
    _added: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_user(cls) -> KnownDigests:
        """Return those of the user, in `$XDG_CACHE_HOME/stockpot` or `~/.cache/stockpot`."""
        return _opened(os.environ.get("XDG_CACHE_HOME") or "~/.cache")

    @classmethod
    def read(cls, path: Path) -> KnownDigests:
        """Read the file; one that is missing or damaged counts as empty."""
        return cls(path, _content(path))

    def get(self, file: Path) -> str | None:
        """Return the digest of a file in its present state; None if it is not known."""
        key = self.key(file)
        return None if key is None else self.digests.get(key)

    def key(self, file: Path) -> str | None:
        """Return the key of a file's state; None if it has just changed.

        Within one tick of the file system's clock, a file can change without a change of state.
        The time of the last status change is part of the key: unlike that of the content, it
        cannot be set back.
        """
        found = file.stat()
        if max(found.st_mtime, found.st_ctime) > time.time() - _RECENT:
            return None
        times = [found.st_mtime_ns, found.st_ctime_ns]
        return json.dumps([str(file.absolute()), found.st_size, *times, found.st_ino])

    def add(self, key: str, digest: str) -> None:
        """Add the digest of a file state; `save` writes it."""
        self._added[key] = self.digests[key] = digest

    def save(self) -> None:
        """Write what was added, and drop the digests of states that no longer exist."""
        if not self._added:
            return
        with suppress(OSError), file_lock(self.path.with_suffix(".lock")):  # else read again
            others = {k: v for k, v in _content(self.path).items() if self._is_current(k)}
            write_text(self.path, json.dumps(others | self._added, indent=0) + "\n")
            self._added.clear()

    def _is_current(self, key: str) -> bool:
        try:
            return self.key(Path(json.loads(key)[0])) == key
        except (OSError, ValueError, LookupError, TypeError):
            return False


@cache
def _opened(folder: str) -> KnownDigests:
    return KnownDigests.read(Path(folder).expanduser() / "stockpot" / "digests.json")


def _content(path: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: text for key, text in content.items() if isinstance(text, str)}
