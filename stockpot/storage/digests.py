"""Digests of the user's files, kept from run to run, so that planning again reads none of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stockpot.errors import InputError
from stockpot.storage.atomic_files import write_text
from stockpot.storage.locks import file_lock
from stockpot.storage.weights.model_files import digest_ahead, digest_weights, file_state


@dataclass(frozen=True, slots=True)
class DigestCache:
    """Digests by the state a file is in: path, size, time of the change in ns, and inode.

    Attributes:
        state: the folder of the project's state, `.stockpot`.
    """

    state: Path

    @property
    def path(self) -> Path:
        """The file that holds them."""
        return self.state / "digests.json"

    def known(self, groups: Sequence[Sequence[Path]]) -> list[str] | None:
        """Return a digest a group of files, without reading any; None if one is not known.

        Args:
            groups: the files of each model.
        """
        kept = self._read()
        digests = [[kept.get(_state(file), "") for file in files] for files in groups]
        return [_joined(own) for own in digests] if all(map(all, digests)) else None

    def digest(self, groups: Sequence[Sequence[Path]]) -> list[str]:
        """Return a digest a group of files; those that are not known are read, and kept.

        Args:
            groups: the files of each model.

        Raises:
            InputError: a file cannot be read.
        """
        kept = self._read()
        files = [file for group in groups for file in group]
        missing = {file: state for file in files if (state := _state(file)) not in kept}
        digest_ahead(missing)
        new = {state: _digest(file) for file, state in missing.items()}
        if new:
            self._add(new)
        digests = kept | new
        return [_joined([digests[_state(file)] for file in group]) for group in groups]

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # nothing is lost but time
            return {}
        return content if isinstance(content, dict) else {}

    def _add(self, new: dict[str, str]) -> None:
        """Keep digests, but none of files in a state that they are no longer in."""
        with file_lock(self.state / "locks" / "digests.lock"):
            kept = {state: digest for state, digest in self._read().items() if _is_now(state)}
            write_text(self.path, json.dumps(kept | new, indent=0, sort_keys=True) + "\n")


def _state(file: Path) -> str:
    return json.dumps(file_state(file))


def _is_now(state: str) -> bool:
    try:
        return _state(Path(json.loads(state)[0])) == state
    except (OSError, ValueError):
        return False


def _digest(file: Path) -> str:
    try:
        return digest_weights((file,))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def _joined(digests: Sequence[str]) -> str:
    """Return the digest of a model: of its file, or of its files' digests; hex."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
