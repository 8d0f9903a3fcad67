"""The caches of keys of code, which hold for a process whose sources do not change."""

from __future__ import annotations

from stockpot.storage import code_keys


def forget() -> None:
    """Forget what was read of sources."""
    for cached in (code_keys.code_key, code_keys._file_of, code_keys._read):
        cached.cache_clear()
